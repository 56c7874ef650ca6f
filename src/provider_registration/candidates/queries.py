"""The SQL of candidates."""

from __future__ import annotations

from sqlalchemy import text

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

# One page of candidates with their unfinished approvals, newest first.
LIST_CANDIDATES = text("""
    SELECT candidates.*,
           approval.state AS approval_state,
           approval.requested_at AS approval_requested_at,
           approval.attempts AS approval_attempts,
           approval.next_attempt_at AS approval_next_attempt_at,
           approval.last_error AS approval_last_error
    FROM candidates
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
    WHERE (CAST(:status AS text) IS NULL OR status = :status)
      AND (CAST(:product AS text) IS NULL OR products @> ARRAY[CAST(:product AS text)])
    ORDER BY created_at DESC, id DESC
    LIMIT :limit OFFSET :offset
""")

# How many candidates the filters leave.
COUNT_CANDIDATES = text("""
    SELECT count(*)
    FROM candidates
    WHERE (CAST(:status AS text) IS NULL OR status = :status)
      AND (CAST(:product AS text) IS NULL OR products @> ARRAY[CAST(:product AS text)])
""")

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
