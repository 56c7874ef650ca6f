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

# Read one candidate.
FIND_CANDIDATE = text("""
    SELECT * FROM candidates WHERE id = :candidate_id
""")

# Read one candidate and keep everybody else from deciding about it until the transaction ends.
LOCK_CANDIDATE = text("""
    SELECT * FROM candidates WHERE id = :candidate_id FOR NO KEY UPDATE
""")

# One page of candidates, newest first.
LIST_CANDIDATES = text("""
    SELECT *
    FROM candidates
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

# Claim the approval of a candidate, or take over one whose worker's lease ran out.
CLAIM_APPROVAL = text("""
    INSERT INTO approval_intents
        (candidate_id, idempotency_key, provider_name, candidate_version, requested_by, claim_id,
         lease_expires_at, maybe_sent, attempts)
    VALUES
        (:candidate_id, :idempotency_key, :provider_name, :candidate_version, :requested_by, :claim_id,
         now() + make_interval(secs => :lease_seconds), false, 1)
    ON CONFLICT (candidate_id) DO UPDATE
    SET claim_id = excluded.claim_id,
        lease_expires_at = excluded.lease_expires_at,
        maybe_sent = true,
        attempts = approval_intents.attempts + 1
    WHERE approval_intents.lease_expires_at < now()
    RETURNING idempotency_key, provider_name, candidate_version, maybe_sent
""")

# Whether an approval of a candidate is under way or unfinished.
APPROVAL_STANDS = text("""
    SELECT EXISTS (SELECT FROM approval_intents WHERE candidate_id = :candidate_id)
""")

# Note how an attempt ended that leaves the approval unfinished, and let the next attempt begin at once.
RELEASE_LEASE = text("""
    UPDATE approval_intents
    SET last_error = :last_error, lease_expires_at = now(), maybe_sent = true
    WHERE candidate_id = :candidate_id AND claim_id = :claim_id
""")

# End an approval that made no provider, if it is still ours.
DROP_CLAIM = text("""
    DELETE FROM approval_intents WHERE candidate_id = :candidate_id AND claim_id = :claim_id
""")

# End an approval that is finished, whoever held it.
DROP_APPROVAL = text("""
    DELETE FROM approval_intents WHERE candidate_id = :candidate_id
""")
