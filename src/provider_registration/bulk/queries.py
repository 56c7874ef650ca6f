"""SQL for decisions about many candidates."""

from __future__ import annotations

from sqlalchemy import text

# Whether a job has rejected a candidate.
HAS_REJECTED = text("""
    SELECT EXISTS (
        SELECT FROM candidate_events
        WHERE candidate_id = :candidate_id AND type = 'candidate.rejected' AND data ->> 'job_id' = :job_id
    )
""")

# The status of a candidate, and whether a job requested its last approval.
FIND_REQUESTED = text("""
    SELECT status, EXISTS (
               SELECT FROM candidate_events AS event
               WHERE event.candidate_id = candidates.id
                 AND event.type IN ('candidate.approval_requested', 'candidate.approval_retried')
                 AND event.data ->> 'job_id' = :job_id
                 AND event.id >= (
                     SELECT coalesce(max(id), 0) FROM candidate_events AS request
                     WHERE request.candidate_id = candidates.id AND request.type = 'candidate.approval_requested'
                 )
           ) AS is_ours
    FROM candidates
    WHERE id = :candidate_id
""")
