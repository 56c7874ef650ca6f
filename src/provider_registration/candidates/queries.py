"""The SQL of candidates."""

from __future__ import annotations

from sqlalchemy import DateTime, Text, bindparam, text

# Register a company, unless its address is registered already.
INSERT_CANDIDATE = text("""
    INSERT INTO candidates
        (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location)
    VALUES
        (:company_name, :contact_email, :phone, :products, :truck_count, :capacity_tons_per_day, :location)
    ON CONFLICT (lower(contact_email)) DO NOTHING
    RETURNING *
""")

# Read one candidate, with its unfinished approval.
FIND_CANDIDATE = text("""
    SELECT candidates.*,
           approval.state AS approval_state,
           approval.requested_at AS approval_requested_at,
           approval.attempts AS approval_attempts,
           approval.next_attempt_at AS approval_next_attempt_at,
           approval.last_error AS approval_last_error
    FROM candidates
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
    WHERE candidates.id = :candidate_id
""")

# Read one candidate and keep everybody else from deciding about it until the transaction ends.
LOCK_CANDIDATE = text("""
    SELECT * FROM candidates WHERE id = :candidate_id FOR NO KEY UPDATE
""")

# The ids of one page, newest first, and of one candidate more, which tells whether there is a next page.
# Page for page by cursor, each costs what the first does; an offset walks over ids alone.
_ANY_CANDIDATE = """
    WITH page AS (
        SELECT id, created_at
        FROM candidates
        WHERE (created_at, id) < (:before, :before_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit + 1 OFFSET :offset
    )
"""
_OF_A_STATUS = """
    WITH page AS (
        SELECT id, created_at
        FROM candidates
        WHERE status = :status AND (created_at, id) < (:before, :before_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit + 1 OFFSET :offset
    )
"""
_WITH_A_PRODUCT = """
    WITH page AS (
        SELECT id, created_at
        FROM candidates
        WHERE products @> ARRAY[CAST(:product AS text)] AND (created_at, id) < (:before, :before_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit + 1 OFFSET :offset
    )
"""
_OF_A_STATUS_WITH_A_PRODUCT = """
    WITH page AS (
        SELECT id, created_at
        FROM candidates
        WHERE status = :status
          AND products @> ARRAY[CAST(:product AS text)]
          AND (created_at, id) < (:before, :before_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit + 1 OFFSET :offset
    )
"""

# The page's records as JSON in the shape of CandidateResponse, and how many there are on all pages.
_RECORDS = """
    , record AS (
        SELECT candidates.id,
               candidates.created_at,
               json_build_object(
                   'candidate_id', candidates.id,
                   'status', status,
                   'company_name', company_name,
                   'contact_email', contact_email,
                   'phone', phone,
                   'products', products,
                   'truck_count', truck_count,
                   'capacity_tons_per_day', capacity_tons_per_day,
                   'location', location,
                   'created_at', replace(to_char(candidates.created_at, :instant), '.000000Z', 'Z'),
                   'updated_at', replace(to_char(updated_at, :instant), '.000000Z', 'Z'),
                   'provider_id', provider_id,
                   'version', version,
                   'rejection_reason', rejection_reason,
                   'approval', CASE WHEN approval.candidate_id IS NOT NULL THEN json_build_object(
                       'state', approval.state,
                       'requested_at', replace(to_char(approval.requested_at, :instant), '.000000Z', 'Z'),
                       'attempts', approval.attempts,
                       'next_attempt_at', CASE WHEN approval.state = 'waiting' THEN
                           replace(to_char(approval.next_attempt_at, :instant), '.000000Z', 'Z') END,
                       'last_error', approval.last_error
                   ) END
               ) AS json
        FROM (SELECT id FROM page ORDER BY created_at DESC, id DESC LIMIT :limit) AS shown
        JOIN candidates USING (id)
        LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
    ), total AS (
        SELECT CAST(coalesce(sum(count), 0) AS bigint) AS total
        FROM candidate_counts
        WHERE product = coalesce(CAST(:product AS text), '')
          AND (CAST(:status AS text) IS NULL OR status = :status)
    ), last AS (
        SELECT created_at, id FROM record ORDER BY created_at, id LIMIT 1
    )
    SELECT total,
           (SELECT count(*) FROM page) > :limit AS has_more,
           (SELECT created_at FROM last) AS last_created_at,
           (SELECT id FROM last) AS last_id,
           (
               SELECT CAST(coalesce(json_agg(json ORDER BY created_at DESC, id DESC), '[]') AS text) FROM record
           ) AS records
    FROM total
"""

_TYPES = (
    bindparam("before", type_=DateTime(timezone=True)),
    bindparam("instant", 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text),  # sessions are in UTC
)

# By whether there is a status to filter by, and a product: each has the plan that serves it.
LIST_CANDIDATES = {
    (False, False): text(_ANY_CANDIDATE + _RECORDS).bindparams(*_TYPES),
    (True, False): text(_OF_A_STATUS + _RECORDS).bindparams(*_TYPES),
    (False, True): text(_WITH_A_PRODUCT + _RECORDS).bindparams(*_TYPES),
    (True, True): text(_OF_A_STATUS_WITH_A_PRODUCT + _RECORDS).bindparams(*_TYPES),
}

# Add to the counts what they lack, and say what that was: nothing unless rows came past the trigger.
RECOUNT = text("SELECT product, status, missing FROM recount_candidates()")

# Reject a pending candidate, unless someone changed it since we read it.
REJECT_CANDIDATE = text("""
    UPDATE candidates
    SET status = 'rejected', rejection_reason = :reason
    WHERE id = :candidate_id AND status = 'pending' AND version = :version
    RETURNING *
""")

# Approve a pending candidate, unless someone changed it since we read it.
APPROVE_CANDIDATE = text("""
    UPDATE candidates
    SET status = 'approved', provider_id = :provider_id
    WHERE id = :candidate_id AND status = 'pending' AND version = :version
    RETURNING *
""")

# Whether an approval of a candidate stands in the way, and how.
APPROVAL_STATE = text("""
    SELECT state FROM unfinished_approvals WHERE candidate_id = :candidate_id
""")
