"""SQL for approvals.

An intent with a `claim_id` is leased until `next_attempt_at`; one without it waits until then, or is in doubt.
"""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.candidates.queries import (
    APPROVAL_STATE,
    CANDIDATE_COLUMNS,
    LONGEST,
    OBSTACLE,
    job_of,
    notification_of,
)
from provider_registration.db.database import BATCH_LOCK_TIMEOUT, LOCK_TIMEOUT_CTE
from provider_registration.db.statements import statement

# Claim approvals, record who requested them, and return the obstacle to each that was not claimed. Skip rows locked by
# others. Names are inserted in order, so that two statements cannot deadlock. A waiting approval is taken over.
CLAIM = statement(
    """
    WITH {lock_timeout}, seen AS (
        SELECT request.*, actor.kind AS actor_kind, actor.id AS actor_id, candidates.company_name,
               candidates.status, candidates.version, intent.candidate_id IS NOT NULL AS has_intent,
               {obstacle} AS obstacle
        FROM json_to_recordset(CAST(:requests AS json)) AS request (
            candidate_id uuid, idempotency_key uuid, claim_id uuid, actor json, expected bigint[], is_retry boolean,
            notify boolean, job_id uuid
        )
        CROSS JOIN LATERAL json_to_record(request.actor) AS actor (kind text, id uuid)
        LEFT JOIN candidates ON candidates.id = request.candidate_id
        LEFT JOIN approval_intents AS intent ON intent.candidate_id = request.candidate_id
    ), free AS (
        SELECT seen.*
        FROM seen
        JOIN candidates ON candidates.id = seen.candidate_id
        CROSS JOIN lock_timeout
        WHERE candidates.status = 'pending'
          AND candidates.version = seen.version
          AND coalesce(seen.obstacle, 'waiting') = 'waiting'
          AND (seen.has_intent OR NOT seen.is_retry)
        FOR NO KEY UPDATE OF candidates SKIP LOCKED
    ), started AS (
        INSERT INTO approval_intents
            (candidate_id, idempotency_key, provider_name, requested_by, requested_by_kind, claim_id, next_attempt_at)
        SELECT candidate_id, idempotency_key, company_name, actor_id, actor_kind, claim_id,
               clock_timestamp() + make_interval(secs => :lease_seconds)
        FROM free
        WHERE NOT has_intent
        ORDER BY company_name
        ON CONFLICT DO NOTHING
        RETURNING candidate_id, claim_id, idempotency_key, provider_name, attempts
    ), taken_over AS (
        UPDATE approval_intents AS intent
        SET claim_id = free.claim_id,
            next_attempt_at = clock_timestamp() + make_interval(secs => :lease_seconds),
            attempts = intent.attempts + 1
        FROM free
        WHERE intent.candidate_id = free.candidate_id AND free.has_intent AND {approval_state} = 'waiting'
        RETURNING intent.candidate_id, intent.claim_id, intent.idempotency_key, intent.provider_name, intent.attempts
    ), claimed AS (
        SELECT * FROM started UNION ALL SELECT * FROM taken_over
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT claimed.candidate_id,
               CASE WHEN seen.has_intent THEN 'candidate.approval_retried' ELSE 'candidate.approval_requested' END,
               seen.actor_kind, seen.actor_id, seen.version,
               jsonb_build_object('idempotency_key', claimed.idempotency_key)
               || CASE WHEN seen.has_intent THEN jsonb_build_object('attempt', claimed.attempts) ELSE '{{}}' END
               || {notification} || {job}
        FROM claimed
        JOIN seen USING (claim_id)
    )
    SELECT seen.candidate_id, seen.obstacle, seen.status AS status_seen, seen.version AS version_seen,
           claimed.claim_id, claimed.idempotency_key, claimed.provider_name, claimed.attempts,
           seen.version AS candidate_version
    FROM seen
    LEFT JOIN claimed ON claimed.claim_id = seen.claim_id
    """,
    lock_timeout=LOCK_TIMEOUT_CTE,
    obstacle=OBSTACLE,
    approval_state=APPROVAL_STATE,
    notification=notification_of("seen.notify"),
    job=job_of("seen.job_id"),
).bindparams(BATCH_LOCK_TIMEOUT, LONGEST)

# Mark pending candidates approved, each at its expected version; end their approvals and record the events. If a
# candidate was decided in the meantime, its approval ends too and its provider is recorded once as an orphan.
# Returns the candidates as they are now, except those that are still pending. The company gets no e-mail if the last
# request, or a retry after it, wanted none.
FINISH = statement(
    """
    WITH {lock_timeout}, created AS (
        SELECT created.*, actor.kind AS actor_kind, actor.id AS actor_id
        FROM json_to_recordset(CAST(:created AS json)) AS created (
            candidate_id uuid, candidate_version integer, idempotency_key uuid, provider_id integer, actor json
        )
        LEFT JOIN LATERAL json_to_record(created.actor) AS actor (kind text, id uuid) ON true
    ), approved AS (
        UPDATE candidates
        SET status = 'approved', provider_id = created.provider_id
        FROM created, lock_timeout
        WHERE candidates.id = created.candidate_id
          AND candidates.status = 'pending'
          AND candidates.version = created.candidate_version
        RETURNING candidates.*
    ), otherwise AS (
        SELECT candidates.*, created.provider_id AS created_id, created.idempotency_key, created.actor_kind,
               created.actor_id
        FROM created
        JOIN candidates ON candidates.id = created.candidate_id
        CROSS JOIN lock_timeout
        WHERE candidates.status <> 'pending'
        FOR NO KEY UPDATE OF candidates
    ), ended AS (
        DELETE FROM approval_intents
        WHERE candidate_id IN (SELECT id FROM approved UNION ALL SELECT id FROM otherwise)
        RETURNING candidate_id, requested_by, requested_by_kind
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT approved.id, event.type, coalesce(actor.kind, 'service'), actor.id, event.version,
               jsonb_build_object('idempotency_key', created.idempotency_key, 'provider_id', created.provider_id)
               || CASE WHEN event.is_after_link THEN jsonb_build_object('linked', true) ELSE '{{}}' END
               || {notification}
        FROM created
        JOIN approved ON approved.id = created.candidate_id
        LEFT JOIN ended ON ended.candidate_id = approved.id
        LEFT JOIN LATERAL (
            SELECT known.kind, known.id
            FROM (
                SELECT 1 AS position, created.actor_kind AS kind, created.actor_id AS id
                UNION ALL (
                    SELECT 2, actor_kind, actor_id
                    FROM candidate_events AS request
                    WHERE request.candidate_id = approved.id
                      AND request.type IN ('candidate.approval_requested', 'candidate.approval_retried')
                    ORDER BY request.at DESC, request.id DESC
                    LIMIT 1
                )
                UNION ALL
                SELECT 3, ended.requested_by_kind, ended.requested_by
            ) AS known
            WHERE known.id IS NOT NULL
            ORDER BY known.position
            LIMIT 1
        ) AS actor ON true,
        LATERAL (
            SELECT (
                SELECT data -> 'notify'
                FROM candidate_events AS request
                WHERE request.candidate_id = approved.id
                  AND (request.type = 'candidate.approval_requested'
                       OR request.type = 'candidate.approval_retried' AND request.data ? 'notify')
                ORDER BY request.at DESC, request.id DESC
                LIMIT 1
            ) IS NULL AS is_wanted
        ) AS notification,
        LATERAL (
            SELECT 1 AS position, 'candidate.approval_linked' AS type, approved.version - 1 AS version,
                   false AS is_after_link
            WHERE created.actor_id IS NOT NULL
            UNION ALL
            SELECT 2, 'candidate.approved', approved.version, created.actor_id IS NOT NULL
        ) AS event
        ORDER BY approved.id, event.position
    ), recorded_orphans AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT id, 'candidate.provider_orphaned', coalesce(actor_kind, 'service'), actor_id, version,
               jsonb_build_object('idempotency_key', idempotency_key, 'provider_id', created_id)
        FROM otherwise
        WHERE NOT EXISTS (SELECT FROM candidates WHERE candidates.provider_id = otherwise.created_id)
          AND NOT EXISTS (
              SELECT FROM candidate_events AS known
              WHERE known.candidate_id = otherwise.id
                AND known.type = 'candidate.provider_orphaned'
                AND known.data @> jsonb_build_object('provider_id', otherwise.created_id)
          )
    )
    SELECT {candidate} FROM approved AS candidates
    UNION ALL
    SELECT {candidate} FROM otherwise AS candidates
    """,
    lock_timeout=LOCK_TIMEOUT_CTE,
    notification=notification_of("event.type <> 'candidate.approved' OR notification.is_wanted"),
    candidate=CANDIDATE_COLUMNS,
).bindparams(BATCH_LOCK_TIMEOUT)

# Claim the approval that has been due longest, if any, of those with fewer than `max_attempts`; two processes never get
# the same one.
CLAIM_DUE = text("""
    UPDATE approval_intents
    SET claim_id = :claim_id,
        next_attempt_at = clock_timestamp() + make_interval(secs => :lease_seconds),
        attempts = attempts + 1
    WHERE candidate_id = (
        SELECT candidate_id
        FROM approval_intents
        WHERE in_doubt_since IS NULL
          AND (next_attempt_at <= clock_timestamp()
               OR next_attempt_at > clock_timestamp() + make_interval(secs => :longest_seconds))
          AND attempts < :max_attempts
        ORDER BY next_attempt_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING candidate_id, claim_id, idempotency_key, provider_name, attempts,
              (SELECT version FROM candidates WHERE id = approval_intents.candidate_id) AS candidate_version
""")

# Lock a candidate's approval until the transaction ends.
LOCK_APPROVAL = statement(
    """
    SELECT candidate_id, idempotency_key, provider_name, requested_by_kind AS actor_kind, requested_by AS actor_id,
           CAST(NULL AS text) AS actor_name, requested_at, next_attempt_at, attempts, last_error,
           {approval_state} AS state
    FROM approval_intents AS intent
    WHERE candidate_id = :candidate_id
    FOR UPDATE
    """,
    approval_state=APPROVAL_STATE,
).bindparams(LONGEST)

# One page of the unfinished approvals, oldest first.
LIST_APPROVALS = text("""
    WITH page AS (
        SELECT *
        FROM unfinished_approvals
        WHERE (CAST(:state AS text) IS NULL OR state = :state)
          AND (CAST(:after_at AS timestamptz) IS NULL
               OR (requested_at, candidate_id) > (:after_at, CAST(:after_id AS uuid)))
        ORDER BY requested_at, candidate_id
        LIMIT :limit OFFSET :offset
    )
    SELECT page.candidate_id, page.idempotency_key, page.provider_name, intent.requested_by_kind AS actor_kind,
           page.requested_by AS actor_id, coalesce(users.email, api_keys.name) AS actor_name, page.requested_at,
           page.next_attempt_at, page.attempts, page.last_error, page.state
    FROM page
    JOIN approval_intents AS intent ON intent.candidate_id = page.candidate_id
    LEFT JOIN users ON users.id = page.requested_by
    LEFT JOIN api_keys ON api_keys.id = page.requested_by
    ORDER BY page.requested_at, page.candidate_id
""")

# How many approvals are unfinished.
COUNT_APPROVALS = text("""
    SELECT count(*)
    FROM unfinished_approvals
    WHERE CAST(:state AS text) IS NULL OR state = :state
""")

# For the metrics: the number of unfinished approvals in each state, and the age of the oldest in seconds.
SUMMARISE = text("""
    SELECT state,
           count(*) AS unfinished,
           CAST(extract(epoch FROM now() - min(requested_at)) AS float8) AS oldest_seconds
    FROM unfinished_approvals
    GROUP BY state
""")

# For the metrics: the number of orphaned providers.
COUNT_ORPHANS = text("""
    SELECT count(DISTINCT data -> 'provider_id') FROM candidate_events WHERE type = 'candidate.provider_orphaned'
""")

# For the metrics: the age of the oldest transaction in this database in seconds, and how many have begun since the
# oldest for which PostgreSQL keeps old row versions: of a session, a prepared transaction, or a replica with
# hot_standby_feedback, whose xmin a slot keeps. No row if the role cannot see the transactions of other roles.
OLDEST_TRANSACTION = text("""
    SELECT CAST(coalesce(extract(epoch FROM clock_timestamp() - min(begun)), 0) AS float8) AS seconds,
           CAST(coalesce(max(later), 0) AS float8) AS later
    FROM (
        SELECT xact_start AS begun, greatest(age(backend_xid), age(backend_xmin)) AS later
        FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' OR backend_type = 'walsender'
        UNION ALL
        SELECT prepared, age(transaction) FROM pg_prepared_xacts WHERE database = current_database()
        UNION ALL
        SELECT NULL, age(xmin) FROM pg_replication_slots
    ) AS held
    HAVING pg_has_role('pg_read_all_stats', 'USAGE')
""")

# Release a claim that is still ours and schedule a retry. `last_error` keeps billing's last error during a pause.
KEEP_WAITING = text("""
    UPDATE approval_intents
    SET claim_id = NULL,
        next_attempt_at = now() + make_interval(secs => :wait_seconds),
        last_error = CASE WHEN :was_called THEN :last_error ELSE coalesce(last_error, :last_error) END
    WHERE candidate_id = :candidate_id AND claim_id = :claim_id
    RETURNING candidate_id
""")

# Release a claim that is still ours, put the approval in doubt and record that; as below, of a locked candidate.
MARK_IN_DOUBT = text("""
    WITH marked AS (
        UPDATE approval_intents
        SET claim_id = NULL, in_doubt_since = now(), last_error = :last_error
        WHERE candidate_id = :candidate_id AND claim_id = :claim_id
        RETURNING candidate_id, idempotency_key, attempts
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, version, data)
        SELECT candidate_id, 'candidate.approval_in_doubt', 'service', candidates.version,
               jsonb_build_object('idempotency_key', idempotency_key, 'attempt', attempts,
                                  'error_code', CAST(:error_code AS text))
        FROM marked
        JOIN candidates ON candidates.id = marked.candidate_id
        RETURNING id, candidate_id
    )
    INSERT INTO candidate_event_details (event_id, candidate_id, details)
    SELECT id, candidate_id, jsonb_build_object('error', CAST(:last_error AS text)) FROM recorded
    RETURNING candidate_id
""")

# End an approval that created no provider, if the claim is still ours, and record that.
DROP_CLAIM = text("""
    WITH dropped AS (
        DELETE FROM approval_intents
        WHERE candidate_id = :candidate_id AND claim_id = :claim_id
        RETURNING candidate_id, idempotency_key, attempts
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, version, data)
        SELECT candidate_id, 'candidate.approval_failed', 'service', candidates.version,
               jsonb_build_object('idempotency_key', idempotency_key, 'attempt', attempts,
                                  'error_code', CAST(:error_code AS text))
        FROM dropped
        JOIN candidates ON candidates.id = dropped.candidate_id
        RETURNING id, candidate_id
    )
    INSERT INTO candidate_event_details (event_id, candidate_id, details)
    SELECT id, candidate_id, jsonb_build_object('error', CAST(:last_error AS text)) FROM recorded
    RETURNING candidate_id
""")

# End an approval, even if a worker holds it, and record who did.
DROP_APPROVAL = text("""
    WITH dropped AS (
        DELETE FROM approval_intents
        WHERE candidate_id = :candidate_id
        RETURNING candidate_id, idempotency_key
    )
    INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
    SELECT candidate_id, 'candidate.approval_released', CAST(:actor_kind AS text), CAST(:actor_id AS uuid),
           candidates.version, jsonb_build_object('idempotency_key', idempotency_key)
    FROM dropped
    JOIN candidates ON candidates.id = dropped.candidate_id
""")

# The events of a candidate's approval, newest first. An approval by linking a provider is one event here.
LIST_EVENTS = text("""
    SELECT event.id, event.type, event.at, event.actor_kind, event.actor_id,
           coalesce(users.email, api_keys.name) AS actor_name,
           CAST(event.data ->> 'provider_id' AS integer) AS provider_id, details.details ->> 'error' AS detail
    FROM candidate_events AS event
    LEFT JOIN candidate_event_details AS details ON details.event_id = event.id
    LEFT JOIN users ON event.actor_kind = 'user' AND users.id = event.actor_id
    LEFT JOIN api_keys ON event.actor_kind = 'api_key' AND api_keys.id = event.actor_id
    WHERE event.candidate_id = :candidate_id
      AND event.data ? 'idempotency_key'
      AND NOT event.data ? 'linked'
      AND (CAST(:before AS bigint) IS NULL
           OR (event.at, event.id) < (
               SELECT last.at, last.id
               FROM candidate_events AS last
               WHERE last.id = :before AND last.candidate_id = :candidate_id
           ))
    ORDER BY event.at DESC, event.id DESC
    LIMIT :limit
""")
