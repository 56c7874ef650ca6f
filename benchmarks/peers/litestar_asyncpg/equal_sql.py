"""What the equal store reads and writes, each a single statement: rows, their events, approvals that survive a crash.

Triggers of the schema keep the version, counts, keys of similar companies, queue of events and copies of events.
"""

from __future__ import annotations

OWN_COLUMNS = """
    id AS candidate_id, status, company_name, contact_email, phone, products, truck_count, capacity_tons_per_day,
    location, created_at, updated_at, provider_id, version, rejection_reason
"""
COLUMNS = f"""
    {OWN_COLUMNS},
    (SELECT CAST(row_to_json(summary) AS text)
     FROM (SELECT state, requested_at, attempts, last_error,
                  CASE WHEN state = 'waiting' THEN next_attempt_at END AS next_attempt_at
           FROM unfinished_approvals WHERE candidate_id = candidates.id) AS summary) AS approval
"""
FIND = f"SELECT {COLUMNS} FROM candidates WHERE id = $1"

# As for the service: the counts that triggers keep, all for product ''.
COUNT = "SELECT CAST(coalesce(sum(count), 0) AS bigint) FROM candidate_counts WHERE product = $1"
COUNT_OF_STATUS = f"{COUNT} AND status = $2"

REGISTER = f"""
    WITH added AS (
        INSERT INTO candidates
            (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location,
             contact_email_canonical, search_text)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        RETURNING *
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, version)
        SELECT id, 'candidate.registered', 'applicant', version FROM added
    )
    SELECT {OWN_COLUMNS}, NULL AS approval FROM added
"""

LOCK = "SELECT id FROM candidates WHERE id = $1 FOR NO KEY UPDATE"

# After the lock: a statement that waited itself would not see an approval that began meanwhile.
REJECT = """
    WITH seen AS (
        SELECT candidates.id, candidates.status, candidates.version, intent.candidate_id IS NOT NULL AS has_approval
        FROM candidates
        LEFT JOIN approval_intents AS intent ON intent.candidate_id = candidates.id
        WHERE candidates.id = $1
    ), rejected AS (
        UPDATE candidates
        SET status = 'rejected', rejection_reason = $2, rejected_by = $3
        FROM seen
        WHERE candidates.id = seen.id AND candidates.status = 'pending' AND candidates.version = seen.version
          AND NOT seen.has_approval
        RETURNING candidates.id, candidates.version, candidates.rejected_by
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version)
        SELECT id, 'candidate.rejected', 'user', rejected_by, version FROM rejected
    )
    SELECT seen.status, seen.has_approval, rejected.id IS NOT NULL AS is_rejected
    FROM seen LEFT JOIN rejected USING (id)
"""

# One row if there is the candidate; with a claim if it is pending and its approval is new, or waits to go on.
CLAIM = """
    WITH free AS (
        SELECT id, version, company_name FROM candidates WHERE id = $1 AND status = 'pending' FOR NO KEY UPDATE
    ), claimed AS (
        INSERT INTO approval_intents AS intent
            (candidate_id, idempotency_key, provider_name, requested_by, requested_by_kind, claim_id, next_attempt_at)
        SELECT id, CAST($2 AS uuid), company_name, CAST($4 AS uuid), 'user', CAST($3 AS uuid),
               clock_timestamp() + make_interval(secs => $5)
        FROM free
        ON CONFLICT (candidate_id) DO UPDATE
        SET claim_id = excluded.claim_id, next_attempt_at = excluded.next_attempt_at, attempts = intent.attempts + 1
        WHERE intent.in_doubt_since IS NULL
          AND (intent.claim_id IS NULL OR intent.next_attempt_at <= clock_timestamp())
        RETURNING candidate_id, idempotency_key, provider_name, claim_id, attempts
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT claimed.candidate_id,
               CASE claimed.attempts WHEN 1 THEN 'candidate.approval_requested' ELSE 'candidate.approval_retried' END,
               'user', CAST($4 AS uuid), free.version, jsonb_build_object('idempotency_key', claimed.idempotency_key)
        FROM claimed JOIN free ON free.id = claimed.candidate_id
    )
    SELECT candidates.status, candidates.version, candidates.id AS candidate_id, claimed.idempotency_key,
           claimed.provider_name, claimed.claim_id, claimed.attempts,
           EXISTS (SELECT FROM approval_intents WHERE candidate_id = candidates.id) AS has_approval
    FROM candidates LEFT JOIN claimed ON claimed.candidate_id = candidates.id
    WHERE candidates.id = $1
"""

CLAIM_DUE = """
    UPDATE approval_intents
    SET claim_id = $1, next_attempt_at = clock_timestamp() + make_interval(secs => $2), attempts = attempts + 1
    WHERE candidate_id IN (
        SELECT candidate_id FROM approval_intents
        WHERE in_doubt_since IS NULL AND next_attempt_at <= clock_timestamp()
        ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    RETURNING candidate_id, idempotency_key, provider_name, claim_id, attempts,
              (SELECT version FROM candidates WHERE id = approval_intents.candidate_id) AS version
"""

# If it was decided meanwhile, the provider is recorded as an orphan.
FINISH = """
    WITH approved AS (
        UPDATE candidates SET status = 'approved', provider_id = CAST($4 AS integer)
        WHERE id = $1 AND status = 'pending' AND version = $2
        RETURNING id, version
    ), ended AS (
        DELETE FROM approval_intents WHERE candidate_id = $1 RETURNING requested_by, requested_by_kind
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT CAST($1 AS uuid),
               CASE WHEN approved.id IS NULL THEN 'candidate.provider_orphaned' ELSE 'candidate.approved' END,
               coalesce(ended.requested_by_kind, 'service'), ended.requested_by, approved.version,
               jsonb_build_object('idempotency_key', CAST($3 AS uuid), 'provider_id', CAST($4 AS integer))
        FROM (VALUES (1)) AS one LEFT JOIN approved ON true LEFT JOIN ended ON true
    )
    SELECT EXISTS (SELECT FROM approved)
"""

KEEP_WAITING = """
    UPDATE approval_intents
    SET claim_id = NULL, next_attempt_at = now() + make_interval(secs => $3), last_error = $4
    WHERE candidate_id = $1 AND claim_id = $2
"""
DOUBT = """
    WITH marked AS (
        UPDATE approval_intents SET claim_id = NULL, in_doubt_since = now(), last_error = $3
        WHERE candidate_id = $1 AND claim_id = $2
        RETURNING candidate_id, idempotency_key
    )
    INSERT INTO candidate_events (candidate_id, type, actor_kind, data)
    SELECT candidate_id, 'candidate.approval_in_doubt', 'service',
           jsonb_build_object('idempotency_key', idempotency_key)
    FROM marked
"""
DROP = """
    WITH dropped AS (
        DELETE FROM approval_intents WHERE candidate_id = $1 AND claim_id = $2 RETURNING candidate_id, idempotency_key
    )
    INSERT INTO candidate_events (candidate_id, type, actor_kind, data)
    SELECT candidate_id, 'candidate.approval_failed', 'service', jsonb_build_object('idempotency_key', idempotency_key)
    FROM dropped
"""
