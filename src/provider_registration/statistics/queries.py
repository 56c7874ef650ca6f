"""SQL for statistics. Each statement reads an index range of some days, a bounded number of rows, or stored counts."""

from __future__ import annotations

from sqlalchemy import DateTime, bindparam, text

_SINCE = bindparam("since", type_=DateTime(timezone=True))

# Candidates and their tonnes per day, by product ('' stands for all) and status.
SUM_COUNTS = text("""
    SELECT product, status, CAST(sum(count) AS bigint) AS candidates, CAST(sum(tons_per_day) AS bigint) AS tons_per_day
    FROM candidate_counts
    GROUP BY product, status
""")

# When the oldest pending candidate registered.
OLDEST_PENDING = text("""
    SELECT created_at FROM candidates WHERE status = 'pending' ORDER BY created_at, id LIMIT 1
""")

# Registrations per day.
REGISTRATIONS_PER_DAY = text("""
    SELECT CAST(created_at AS date) AS day, count(*) AS registered
    FROM candidates
    WHERE created_at >= :since
    GROUP BY day
""").bindparams(_SINCE)

# Decisions per day.
DECISIONS_PER_DAY = text("""
    SELECT CAST(updated_at AS date) AS day, status, count(*) AS decided
    FROM candidates
    WHERE status <> 'pending' AND updated_at >= :since
    GROUP BY day, status
""").bindparams(_SINCE)

# The time to the latest decisions in seconds: median and 95th percentile.
TIME_TO_DECISION = text("""
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median_seconds,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS slow_seconds
    FROM (
        SELECT CAST(extract(epoch FROM updated_at - created_at) AS float8) AS seconds
        FROM candidates
        WHERE status <> 'pending' AND updated_at >= :since
        ORDER BY updated_at DESC
        LIMIT :max_rows
    ) AS latest
""").bindparams(_SINCE)

# Outcomes of approvals: the latest events of their :types. An approval by linking a provider counts as linked alone.
APPROVAL_OUTCOMES = text("""
    SELECT type, count(*) AS happened
    FROM (
        SELECT event.type
        FROM unnest(CAST(:types AS text[])) AS known (name)
        CROSS JOIN LATERAL (
            SELECT type, at, id
            FROM candidate_events
            WHERE type = known.name
              AND type <> 'candidate.registered' -- which the index does not have
              AND at >= :since
              AND data ? 'idempotency_key'
              AND NOT data ? 'linked'
            ORDER BY at DESC, id DESC
            LIMIT :max_rows
        ) AS event
        ORDER BY event.at DESC, event.id DESC
        LIMIT :max_rows
    ) AS latest
    GROUP BY type
""").bindparams(_SINCE)
