"""The SQL of candidates."""

from __future__ import annotations

from sqlalchemy import DateTime, Text, bindparam, text

from provider_registration.db.database import PATIENCE_OF_A_BATCH

INSTANT = bindparam("instant", 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text)  # sessions are in UTC

# What Candidate is made of, of whatever is called `candidates`. Columns have names in all that is returned: one that a
# later release adds would change what `*` means, and PostgreSQL refuses to go on with a prepared statement then.
CANDIDATE_COLUMNS = """
    candidates.id, candidates.status, candidates.company_name, candidates.contact_email, candidates.phone,
    candidates.products, candidates.truck_count, candidates.capacity_tons_per_day, candidates.location,
    candidates.created_at, candidates.updated_at, candidates.provider_id, candidates.version,
    candidates.rejection_reason, candidates.rejected_by
"""
SELECT_CANDIDATES = "SELECT " + CANDIDATE_COLUMNS

# The same, with the unfinished approval of each: of whatever is called `approval`.
_AND_APPROVAL = """
    , approval.state AS approval_state, approval.requested_at AS approval_requested_at,
    approval.attempts AS approval_attempts, approval.next_attempt_at AS approval_next_attempt_at,
    approval.last_error AS approval_last_error
"""
SELECT_WITH_APPROVAL = SELECT_CANDIDATES + _AND_APPROVAL
_FROM_BOTH = """
    FROM candidates
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
"""
_WITH_APPROVAL = SELECT_WITH_APPROVAL + _FROM_BOTH

# Records of whatever is called `candidates`: JSON in the shape of CandidateResponse.
SELECT_RECORDS = """
    SELECT candidates.id,
           candidates.version,
           candidates.created_at,
           (
               SELECT CAST(row_to_json(record) AS text)
               FROM (
                   SELECT candidates.id AS candidate_id,
                          candidates.status,
                          candidates.company_name,
                          candidates.contact_email,
                          candidates.phone,
                          candidates.products,
                          candidates.truck_count,
                          candidates.capacity_tons_per_day,
                          candidates.location,
                          replace(to_char(candidates.created_at, :instant), '.000000Z', 'Z') AS created_at,
                          replace(to_char(candidates.updated_at, :instant), '.000000Z', 'Z') AS updated_at,
                          candidates.provider_id,
                          candidates.version,
                          candidates.rejection_reason,
                          (
                              SELECT row_to_json(standing)
                              FROM (
                                  SELECT state,
                                         replace(to_char(requested_at, :instant), '.000000Z', 'Z') AS requested_at,
                                         attempts,
                                         CASE WHEN state = 'waiting' THEN
                                             replace(to_char(next_attempt_at, :instant), '.000000Z', 'Z')
                                         END AS next_attempt_at,
                                         last_error
                                  FROM unfinished_approvals
                                  WHERE candidate_id = candidates.id
                              ) AS standing
                          ) AS approval
               ) AS record
           ) AS json
"""

# Register companies, each unless its address is registered already; a form that is sent twice at once may meet its own
# status secret first. In the order of addresses: two statements that met in another order would deadlock.
_INSERT = """
    , added AS (
        INSERT INTO candidates
            (id, company_name, contact_email, contact_email_canonical, phone, products, truck_count,
             capacity_tons_per_day, location, status_secret_hash, search_text)
        SELECT candidate_id, company_name, contact_email, contact_email_canonical, phone, products, truck_count,
               capacity_tons_per_day, location, decode(status_secret_hash, 'hex'), search_text
        FROM ROWS FROM (
            json_to_recordset(CAST(:registrations AS json)) AS (
                candidate_id uuid,
                company_name text,
                contact_email text,
                contact_email_canonical text,
                phone text,
                products text[],
                truck_count integer,
                capacity_tons_per_day integer,
                location text,
                status_secret_hash text,
                search_text text
            )
        ) WITH ORDINALITY AS registration, patience
        ORDER BY contact_email_canonical, ordinality
        ON CONFLICT DO NOTHING
        RETURNING *
    )
"""
_FROM_ADDED = "FROM added AS candidates"
_PATIENTLY = "WITH " + PATIENCE_OF_A_BATCH
_PATIENTLY_INSERT = _PATIENTLY + _INSERT
_INSERT_AND_SELECT = _PATIENTLY_INSERT + SELECT_RECORDS
INSERT_CANDIDATES = text(_INSERT_AND_SELECT + _FROM_ADDED).bindparams(INSTANT)

# Read candidates, each with its unfinished approval.
_WITH_IDS = "FROM candidates WHERE candidates.id = ANY(:candidate_ids)"
FIND_CANDIDATES = text(SELECT_RECORDS + _WITH_IDS).bindparams(INSTANT)

# Read one candidate, with its unfinished approval.
_OF_ONE = "WHERE candidates.id = :candidate_id"
FIND_CANDIDATE = text(_WITH_APPROVAL + _OF_ONE)

# Some candidates, each with its unfinished approval, oldest first.
_OF_SOME = "WHERE candidates.id = ANY(:candidate_ids) ORDER BY candidates.created_at, candidates.id"
FIND_NAMED = text(_WITH_APPROVAL + _OF_SOME)

# Read one candidate and keep everybody else from deciding about it until the transaction ends.
_LOCKED = "FROM candidates WHERE id = :candidate_id FOR NO KEY UPDATE"
LOCK_CANDIDATE = text(SELECT_CANDIDATES + _LOCKED)

# For the metrics: how long the pending candidate that waits longest has waited, in seconds; no row without any.
OLDEST_PENDING_SECONDS = text("""
    SELECT CAST(extract(epoch FROM now() - created_at) AS float8)
    FROM candidates
    WHERE status = 'pending'
    ORDER BY created_at, id
    LIMIT 1
""")

# Processes that recount at the same time take turns.
TAKE_TURN_TO_RECOUNT = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=int.from_bytes(b"provrcnt", "big"))

# Add to the counts what they lack, and say what that was: nothing unless rows came past the trigger.
RECOUNT = text("SELECT product, status, missing, missing_tons FROM recount_candidates()")

# Reject a pending candidate, unless someone changed it since we read it.
_REJECT_ONE = """
    UPDATE candidates
    SET status = 'rejected', rejection_reason = :reason, rejected_by = :user_id
    WHERE id = :candidate_id AND status = 'pending' AND version = :version
    RETURNING
"""
REJECT_CANDIDATE = text(_REJECT_ONE + CANDIDATE_COLUMNS)

# Of these candidates, keep those that nobody holds from being decided by others until the transaction ends, which does
# not wait long for any other row either.
_LOCK_FREE = """
    SELECT id FROM candidates, patience WHERE id = ANY(:candidate_ids)
    ORDER BY id FOR NO KEY UPDATE OF candidates SKIP LOCKED
"""
LOCK_FREE_CANDIDATES = text(_PATIENTLY + _LOCK_FREE)

# Reject pending candidates that are locked, each unless someone changed it or an approval of it stands.
_REJECT_LOCKED = """
    UPDATE candidates
    SET status = 'rejected', rejection_reason = rejection.reason, rejected_by = rejection.user_id
    FROM json_to_recordset(CAST(:rejections AS json))
             AS rejection (candidate_id uuid, reason text, user_id uuid, expected bigint[])
    WHERE candidates.id = rejection.candidate_id
      AND candidates.status = 'pending'
      AND (rejection.expected IS NULL OR candidates.version = ANY(rejection.expected))
      AND NOT EXISTS (SELECT FROM approval_intents WHERE approval_intents.candidate_id = candidates.id)
    RETURNING
"""
REJECT_CANDIDATES = text(_REJECT_LOCKED + CANDIDATE_COLUMNS)

# Approve a pending candidate, unless someone changed it since we read it.
_APPROVE_ONE = """
    UPDATE candidates
    SET status = 'approved', provider_id = :provider_id
    WHERE id = :candidate_id AND status = 'pending' AND version = :version
    RETURNING
"""
APPROVE_CANDIDATE = text(_APPROVE_ONE + CANDIDATE_COLUMNS)

# Read what the company with this status secret is shown of its own application, and nothing of what staff see.
FIND_APPLICATION = text("""
    SELECT status, company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location,
           created_at, rejection_reason,
           CASE WHEN status <> 'pending' THEN updated_at END AS decided_at
    FROM candidates
    WHERE status_secret_hash = decode(:status_secret_hash, 'hex')
""")

# Give a candidate another status secret: only the hash, in hexadecimal, is kept.
REPLACE_STATUS_SECRET = text("""
    UPDATE candidates
    SET status_secret_hash = decode(:status_secret_hash, 'hex')
    WHERE id = :candidate_id
    RETURNING id
""")

# Whether an approval of a candidate stands in the way, and how. One that is held for longer than any process holds one
# waits: the database's clock was set back.
APPROVAL_STATE = text("""
    SELECT CASE WHEN state = 'in_progress'
                     AND next_attempt_at > clock_timestamp() + make_interval(secs => :longest_seconds)
           THEN 'waiting' ELSE state END
    FROM unfinished_approvals
    WHERE candidate_id = :candidate_id
""")

# Some candidates whose search text is empty: an older release wrote them.
FIND_WITHOUT_SEARCH_TEXT = text("""
    SELECT id, company_name, contact_email, phone, location
    FROM candidates
    WHERE search_text IS NULL
    ORDER BY id
    LIMIT :most
""")

# Fill search texts, except of candidates that are locked, or were changed, filled or erased since they were read.
FILL_SEARCH_TEXTS = text("""
    WITH made AS (
        SELECT * FROM json_to_recordset(CAST(:made AS json))
            AS made (id uuid, company_name text, contact_email text, phone text, location text, search_text text)
    ), unchanged AS (
        SELECT candidates.id, made.search_text
        FROM candidates JOIN made USING (id)
        WHERE candidates.search_text IS NULL
          AND (candidates.company_name, candidates.contact_email, candidates.phone, candidates.location)
              IS NOT DISTINCT FROM (made.company_name, made.contact_email, made.phone, made.location)
        FOR NO KEY UPDATE OF candidates SKIP LOCKED
    )
    UPDATE candidates SET search_text = unchanged.search_text FROM unchanged WHERE candidates.id = unchanged.id
""")

# How many candidates there are of each status, of one product or, for '', of all.
COUNT_BY_STATUS = text("""
    SELECT status, CAST(sum(count) AS bigint) AS candidates
    FROM candidate_counts
    WHERE product = :product
    GROUP BY status
""")

# The pending candidate that registered first after another, and that no approval stands of.
NEXT_PENDING = text("""
    SELECT id
    FROM candidates
    WHERE status = 'pending'
      AND (created_at, id) > (:after, :after_id)
      AND NOT EXISTS (SELECT FROM approval_intents WHERE candidate_id = candidates.id)
    ORDER BY created_at, id
    LIMIT 1
""").bindparams(bindparam("after", type_=DateTime(timezone=True)))

# Who members of staff are.
NAME_USERS = text("SELECT id, email FROM users WHERE id = ANY(:user_ids)")
