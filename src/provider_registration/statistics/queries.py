"""The SQL of sums. None reads more than an index's part for some days, a bounded number of rows, or kept counts."""

from __future__ import annotations

from sqlalchemy import DateTime, bindparam, text

_SINCE = bindparam("since", type_=DateTime(timezone=True))

# Candidates and their tons a day, by product ('' stands for all) and status.
SUM_COUNTS = text("""
    SELECT product, status, CAST(sum(count) AS bigint) AS candidates, CAST(sum(tons_per_day) AS bigint) AS tons_per_day
    FROM candidate_counts
    GROUP BY product, status
""")

# When the pending candidate that waits longest registered.
OLDEST_PENDING = text("""
    SELECT created_at FROM candidates WHERE status = 'pending' ORDER BY created_at, id LIMIT 1
""")

# Registrations of each day.
REGISTRATIONS_A_DAY = text("""
    SELECT CAST(created_at AS date) AS day, count(*) AS registered
    FROM candidates
    WHERE created_at >= :since
    GROUP BY day
""").bindparams(_SINCE)

# Decisions of each day.
DECISIONS_A_DAY = text("""
    SELECT CAST(updated_at AS date) AS day, status, count(*) AS decided
    FROM candidates
    WHERE status <> 'pending' AND updated_at >= :since
    GROUP BY day, status
""").bindparams(_SINCE)

# How long the last decisions took, in seconds: half of them no longer than the one, 95 in 100 than the other.
TIME_TO_DECISION = text("""
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median_seconds,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS slow_seconds
    FROM (
        SELECT CAST(extract(epoch FROM updated_at - created_at) AS float8) AS seconds
        FROM candidates
        WHERE status <> 'pending' AND updated_at >= :since
        ORDER BY updated_at DESC
        LIMIT :most
    ) AS latest
""").bindparams(_SINCE)

# What happened to approvals, of the last happenings.
APPROVAL_OUTCOMES = text("""
    SELECT event, count(*) AS happened
    FROM (SELECT event, at FROM approval_events ORDER BY id DESC LIMIT :most) AS latest
    WHERE at >= :since
    GROUP BY event
""").bindparams(_SINCE)
