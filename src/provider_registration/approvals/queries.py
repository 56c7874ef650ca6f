"""The SQL of approvals.

An intent with a `claim_id` is leased until `next_attempt_at`; one without it waits until then, or is in doubt.
"""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.candidates.queries import APPROVAL_STATE, CANDIDATE_COLUMNS, LONGEST, OBSTACLE
from provider_registration.db.database import BATCH_LOCK_TIMEOUT, LOCK_TIMEOUT_CTE
from provider_registration.db.statements import statement

# Claim approvals, record who requested them, and return the obstacle of each that was not claimed. Skip rows locked by
# others. Names are inserted in order, so that two statements cannot deadlock. A waiting approval is taken over.
CLAIM = statement(
    """
    WITH {lock_timeout}, seen AS (
        SELECT request.*, candidates.company_name, candidates.status, candidates.version,
               intent.candidate_id IS NOT NULL AS has_intent, {obstacle} AS obstacle
        FROM json_to_recordset(CAST(:requests AS json)) AS request (
            candidate_id uuid, idempotency_key uuid, claim_id uuid, user_id uuid, expected bigint[], is_retry boolean
        )
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
            (candidate_id, idempotency_key, provider_name, requested_by, claim_id, next_attempt_at)
        SELECT candidate_id, idempotency_key, company_name, user_id, claim_id,
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
        INSERT INTO approval_events (candidate_id, idempotency_key, event, user_id)
        SELECT claimed.candidate_id, claimed.idempotency_key,
               CASE WHEN seen.has_intent THEN 'retry_requested' ELSE 'requested' END, seen.user_id
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
).bindparams(BATCH_LOCK_TIMEOUT, LONGEST)

# Mark pending candidates approved, each at its expected version; end their approvals and record the events. If a
# candidate was decided in the meantime, its approval ends too and its provider is recorded once as an orphan.
# Returns the candidates as they are now, except those that are still pending.
FINISH = statement(
    """
    WITH {lock_timeout}, created AS (
        SELECT *
        FROM json_to_recordset(CAST(:created AS json)) AS created (
            candidate_id uuid, candidate_version integer, idempotency_key uuid, provider_id integer, event text,
            user_id uuid
        )
    ), approved AS (
        UPDATE candidates
        SET status = 'approved', provider_id = created.provider_id
        FROM created, lock_timeout
        WHERE candidates.id = created.candidate_id
          AND candidates.status = 'pending'
          AND candidates.version = created.candidate_version
        RETURNING candidates.*
    ), otherwise AS (
        SELECT candidates.*, created.provider_id AS created_id, created.idempotency_key, created.user_id
        FROM created
        JOIN candidates ON candidates.id = created.candidate_id
        WHERE candidates.status <> 'pending'
    ), ended AS (
        DELETE FROM approval_intents
        WHERE candidate_id IN (SELECT id FROM approved UNION ALL SELECT id FROM otherwise)
    ), recorded AS (
        INSERT INTO approval_events (candidate_id, idempotency_key, event, user_id, provider_id)
        SELECT created.candidate_id, created.idempotency_key, created.event, created.user_id, created.provider_id
        FROM created
        JOIN approved ON approved.id = created.candidate_id
    ), recorded_orphans AS (
        INSERT INTO approval_events (candidate_id, idempotency_key, event, user_id, provider_id)
        SELECT id, idempotency_key, 'orphaned', user_id, created_id
        FROM otherwise
        WHERE NOT EXISTS (SELECT FROM candidates WHERE candidates.provider_id = otherwise.created_id)
          AND NOT EXISTS (
              SELECT FROM approval_events AS known
              WHERE known.candidate_id = otherwise.id
                AND known.event = 'orphaned'
                AND known.provider_id = otherwise.created_id
          )
    )
    SELECT {candidate} FROM approved AS candidates
    UNION ALL
    SELECT {candidate} FROM otherwise AS candidates
    """,
    lock_timeout=LOCK_TIMEOUT_CTE,
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
    SELECT candidate_id, idempotency_key, provider_name, requested_by, requested_at, next_attempt_at, attempts,
           last_error, {approval_state} AS state
    FROM approval_intents AS intent
    WHERE candidate_id = :candidate_id
    FOR UPDATE
    """,
    approval_state=APPROVAL_STATE,
).bindparams(LONGEST)

# One page of the unfinished approvals, oldest first.
LIST_APPROVALS = text("""
    SELECT candidate_id, idempotency_key, provider_name, requested_by, requested_at, next_attempt_at, attempts,
           last_error, state
    FROM unfinished_approvals
    WHERE CAST(:state AS text) IS NULL OR state = :state
    ORDER BY requested_at, candidate_id
    LIMIT :limit OFFSET :offset
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
    SELECT count(DISTINCT provider_id) FROM approval_events WHERE event = 'orphaned'
""")

# For the metrics: the age of the oldest transaction in this database in seconds; NULL if the role cannot see the
# transactions of other roles.
OLDEST_TRANSACTION_SECONDS = text("""
    SELECT CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE')
        THEN (
            SELECT CAST(coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0) AS float8)
            FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend'
        )
    END
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

# Release a claim that is still ours, put the approval in doubt and record that.
MARK_IN_DOUBT = text("""
    WITH marked AS (
        UPDATE approval_intents
        SET claim_id = NULL, in_doubt_since = now(), last_error = :last_error
        WHERE candidate_id = :candidate_id AND claim_id = :claim_id
        RETURNING candidate_id, idempotency_key, last_error
    )
    INSERT INTO approval_events (candidate_id, idempotency_key, event, detail)
    SELECT candidate_id, idempotency_key, 'in_doubt', last_error FROM marked
    RETURNING candidate_id
""")

# End an approval that created no provider, if the claim is still ours, and record that.
DROP_CLAIM = text("""
    WITH dropped AS (
        DELETE FROM approval_intents
        WHERE candidate_id = :candidate_id AND claim_id = :claim_id
        RETURNING candidate_id, idempotency_key
    )
    INSERT INTO approval_events (candidate_id, idempotency_key, event, detail)
    SELECT candidate_id, idempotency_key, 'failed', CAST(:last_error AS text) FROM dropped
    RETURNING candidate_id
""")

# End an approval, even if a worker holds it, and record who did.
DROP_APPROVAL = text("""
    WITH dropped AS (
        DELETE FROM approval_intents
        WHERE candidate_id = :candidate_id
        RETURNING candidate_id, idempotency_key
    )
    INSERT INTO approval_events (candidate_id, idempotency_key, event, user_id)
    SELECT candidate_id, idempotency_key, 'let_go', CAST(:user_id AS uuid) FROM dropped
""")

# The events of a candidate's approval, newest first.
LIST_EVENTS = text("""
    SELECT event, at, user_id, provider_id, detail
    FROM approval_events
    WHERE candidate_id = :candidate_id
    ORDER BY id DESC
    LIMIT :limit
""")
