"""The SQL of approvals.

An intent with a `claim_id` is held until `next_attempt_at`; one without waits until then, or is in doubt. A time that
is farther ahead than any process sets it is over too: the database's clock was set back. It is compared with
clock_timestamp(): the transaction's now() may be from before a wait for the candidate's row.
"""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.candidates.queries import CANDIDATE_COLUMNS
from provider_registration.db.database import PATIENCE_OF_A_BATCH
from provider_registration.db.statements import statement

# Claim approvals that nothing stands in the way of, and record who asked. What others hold is left out; names in their
# order, since two statements that met in another order would deadlock.
CLAIM_FREE = statement(
    """
    WITH {patience}, free AS (
        SELECT asked.*, candidates.company_name, candidates.version
        FROM json_to_recordset(CAST(:requests AS json)) AS asked (
            candidate_id uuid, idempotency_key uuid, claim_id uuid, user_id uuid, expected bigint[]
        )
        JOIN candidates ON candidates.id = asked.candidate_id
        CROSS JOIN patience
        WHERE candidates.status = 'pending'
          AND (asked.expected IS NULL OR candidates.version = ANY(asked.expected))
        FOR NO KEY UPDATE OF candidates SKIP LOCKED
    ), claimed AS (
        INSERT INTO approval_intents
            (candidate_id, idempotency_key, provider_name, requested_by, claim_id, next_attempt_at)
        SELECT candidate_id, idempotency_key, company_name, user_id, claim_id,
               clock_timestamp() + make_interval(secs => :lease_seconds)
        FROM free
        ORDER BY company_name
        ON CONFLICT DO NOTHING
        RETURNING *
    ), recorded AS (
        INSERT INTO approval_events (candidate_id, idempotency_key, event, user_id)
        SELECT candidate_id, idempotency_key, 'requested', requested_by FROM claimed
    )
    SELECT candidate_id, claim_id, claimed.idempotency_key, provider_name, attempts, free.version AS candidate_version
    FROM claimed
    JOIN free USING (candidate_id, claim_id)
    """,
    patience=PATIENCE_OF_A_BATCH,
)

# Mark pending candidates approved, each unless someone changed it since it was claimed; end and record the approvals.
APPROVE_CLAIMED = statement(
    """
    WITH {patience}, approved AS (
        UPDATE candidates
        SET status = 'approved', provider_id = made.provider_id
        FROM json_to_recordset(CAST(:made AS json)) AS made (
            candidate_id uuid, candidate_version integer, idempotency_key uuid, provider_id integer
        ), patience
        WHERE candidates.id = made.candidate_id
          AND candidates.status = 'pending'
          AND candidates.version = made.candidate_version
        RETURNING candidates.*, made.idempotency_key
    ), ended AS (
        DELETE FROM approval_intents USING approved WHERE approval_intents.candidate_id = approved.id
    ), recorded AS (
        INSERT INTO approval_events (candidate_id, idempotency_key, event, provider_id)
        SELECT id, idempotency_key, 'approved', provider_id FROM approved
    )
    SELECT {candidate} FROM approved AS candidates
    """,
    patience=PATIENCE_OF_A_BATCH,
    candidate=CANDIDATE_COLUMNS,
)

# Claim the approval of a candidate that has none, or whose last holder is gone or let go of it.
CLAIM = text("""
    INSERT INTO approval_intents
        (candidate_id, idempotency_key, provider_name, requested_by, claim_id, next_attempt_at)
    VALUES
        (:candidate_id, :idempotency_key, :provider_name, :user_id, :claim_id,
         clock_timestamp() + make_interval(secs => :lease_seconds))
    ON CONFLICT (candidate_id) DO UPDATE
    SET claim_id = excluded.claim_id,
        next_attempt_at = excluded.next_attempt_at,
        attempts = approval_intents.attempts + 1
    WHERE approval_intents.in_doubt_since IS NULL
      AND (approval_intents.claim_id IS NULL OR approval_intents.next_attempt_at <= clock_timestamp()
           OR approval_intents.next_attempt_at > clock_timestamp() + make_interval(secs => :longest_seconds))
    RETURNING candidate_id, claim_id, idempotency_key, provider_name, attempts,
              (SELECT version FROM candidates WHERE id = approval_intents.candidate_id) AS candidate_version
""")

# Claim the approval that has been due longest, if any; two replicas never get the same.
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
        ORDER BY next_attempt_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING candidate_id, claim_id, idempotency_key, provider_name, attempts,
              (SELECT version FROM candidates WHERE id = approval_intents.candidate_id) AS candidate_version
""")

# Where a candidate's approval stands.
FIND_APPROVAL = text("""
    SELECT candidate_id, idempotency_key, provider_name, requested_by, requested_at, next_attempt_at, attempts,
           last_error, state
    FROM unfinished_approvals
    WHERE candidate_id = :candidate_id
""")

# The same, and nobody else changes it until the transaction ends. A claim that no process holds for so long is over.
LOCK_APPROVAL = text("""
    SELECT candidate_id, idempotency_key, provider_name, requested_by, requested_at, next_attempt_at, attempts,
           last_error,
           CASE WHEN state = 'in_progress'
                     AND next_attempt_at > clock_timestamp() + make_interval(secs => :longest_seconds)
           THEN 'waiting' ELSE state END AS state
    FROM unfinished_approvals
    WHERE candidate_id = :candidate_id
    FOR UPDATE
""")

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

# For the metrics: how many approvals are unfinished in each state, and how old the oldest is, in seconds.
SUMMARISE = text("""
    SELECT state,
           count(*) AS unfinished,
           CAST(extract(epoch FROM now() - min(requested_at)) AS float8) AS oldest_seconds
    FROM unfinished_approvals
    GROUP BY state
""")

# Whether no candidate is linked to a provider, and that was not recorded before.
IS_NEW_ORPHAN = text("""
    SELECT NOT EXISTS (SELECT FROM candidates WHERE provider_id = :provider_id) AND NOT EXISTS (
        SELECT FROM approval_events
        WHERE candidate_id = :candidate_id AND event = 'orphaned' AND provider_id = :provider_id
    )
""")

# For the metrics: how many providers no candidate is linked to.
COUNT_ORPHANS = text("""
    SELECT count(DISTINCT provider_id) FROM approval_events WHERE event = 'orphaned'
""")

# For the metrics: the age of the oldest transaction in this database, in seconds; NULL when the role may not see those
# of others. Every role sees its own.
OLDEST_TRANSACTION_SECONDS = text("""
    SELECT CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE')
        THEN (
            SELECT CAST(coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0) AS float8)
            FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend'
        )
    END
""")

# Let go of a claim that is still ours, to be tried again after a while. What billing said last outlasts its pauses.
KEEP_WAITING = text("""
    UPDATE approval_intents
    SET claim_id = NULL,
        next_attempt_at = now() + make_interval(secs => :wait_seconds),
        last_error = CASE WHEN :was_asked THEN :last_error ELSE coalesce(last_error, :last_error) END
    WHERE candidate_id = :candidate_id AND claim_id = :claim_id
    RETURNING candidate_id
""")

# Leave a claim that is still ours to an admin.
MARK_IN_DOUBT = text("""
    UPDATE approval_intents
    SET claim_id = NULL, in_doubt_since = now(), last_error = :last_error
    WHERE candidate_id = :candidate_id AND claim_id = :claim_id
    RETURNING candidate_id
""")

# End an approval that made no provider, if the claim is still ours.
DROP_CLAIM = text("""
    DELETE FROM approval_intents
    WHERE candidate_id = :candidate_id AND claim_id = :claim_id
    RETURNING candidate_id
""")

# End an approval, whoever holds it.
DROP_APPROVAL = text("""
    DELETE FROM approval_intents WHERE candidate_id = :candidate_id
""")

# Record what happened to an approval, and who did it.
RECORD_EVENT = text("""
    INSERT INTO approval_events (candidate_id, idempotency_key, event, user_id, provider_id, detail)
    VALUES (:candidate_id, :idempotency_key, :event, :user_id, :provider_id, :detail)
""")

# What happened to a candidate's approval, newest first.
LIST_EVENTS = text("""
    SELECT event, at, user_id, provider_id, detail
    FROM approval_events
    WHERE candidate_id = :candidate_id
    ORDER BY id DESC
    LIMIT :limit
""")
