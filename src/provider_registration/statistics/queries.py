"""SQL for statistics. Each statement reads counts of days, a bounded number of events, or one candidate.

`daily_statistics` has counts by day, dimension, value and measure: 'registered', 'approved', 'rejected', 'pending' (the
change of how many are pending) and 'outcome.…' of approvals. `bucket` is that of the time to the decision, else 0.
"""

from __future__ import annotations

import json

from sqlalchemy import Date, Text, bindparam, text

from provider_registration.candidates.models import STANDARD_REASONS
from provider_registration.db.statements import ERASED_EMAIL_OF_CANDIDATE, statement
from provider_registration.statistics.models import OTHERS, OUTCOMES, SERVICE, Reason

REASONS = bindparam("reasons", json.dumps({reason: code for code, reason in STANDARD_REASONS.items()}), type_=Text)

# What the events in a relation named `seen` add, as a relation named `increments`. A decision counts at the time that
# the candidate has, under the reason's code: other texts may have personal data. A candidate that was erased while
# pending was rejected by that: its event says so unless there is one of a rejection, which is kept for a day at least.
INCREMENTS = f"""
    happened AS MATERIALIZED (
        SELECT event.type, event.at, event.actor_id, event.data, candidates.products, candidates.created_at,
               candidates.updated_at, candidates.rejection_reason, CAST(candidates.status AS text) AS status,
               candidates.contact_email = {ERASED_EMAIL_OF_CANDIDATE} AS is_erased,
               event.type = 'candidate.' || candidates.status
               OR event.type = 'candidate.erased'
                  AND candidates.status = 'rejected'
                  AND event.at < candidates.updated_at + interval '1 hour'
                  AND NOT EXISTS (
                      SELECT FROM candidate_events AS rejection
                      WHERE rejection.candidate_id = candidates.id AND rejection.type = 'candidate.rejected'
                  ) AS is_decision
        FROM seen
        JOIN candidate_events AS event ON event.id = seen.event_id
        JOIN candidates ON candidates.id = event.candidate_id
    ), facts AS MATERIALIZED (
        SELECT measure, statistics_day(created_at) AS day, 0 AS bucket, 1 AS count, products,
               CAST(NULL AS text) AS decided_by, CAST(NULL AS text) AS reason
        FROM happened, unnest(ARRAY['registered', 'pending']) AS measure
        WHERE type = 'candidate.registered'
        UNION ALL
        SELECT status, statistics_day(updated_at), statistics_bucket(created_at, updated_at), 1, products,
               coalesce(CAST(actor_id AS text), '{SERVICE}'),
               CASE
                   WHEN status <> 'rejected' THEN NULL
                   WHEN is_erased THEN '{Reason.ERASED}'
                   WHEN coalesce(rejection_reason, '') = '' THEN '{Reason.NONE}'
                   ELSE coalesce(CAST(:reasons AS json) ->> rejection_reason, '{Reason.OTHER}')
               END
        FROM happened
        WHERE is_decision
        UNION ALL
        SELECT 'pending', statistics_day(updated_at), 0, -1, products, NULL, NULL FROM happened WHERE is_decision
        UNION ALL
        SELECT outcome.measure, statistics_day(happened.at), 0, 1, products, NULL, NULL
        FROM happened
        JOIN (VALUES
            ('candidate.approved', 'outcome.approved'),
            ('candidate.approval_linked', 'outcome.linked'),
            ('candidate.approval_failed', 'outcome.failed'),
            ('candidate.approval_in_doubt', 'outcome.in_doubt'),
            ('candidate.approval_released', 'outcome.let_go'),
            ('candidate.provider_orphaned', 'outcome.orphaned')
        ) AS outcome (type, measure) ON outcome.type = happened.type
        WHERE data ? 'idempotency_key' AND NOT data ? 'linked'
    ), increments AS MATERIALIZED (
        SELECT dimension, measure, day, value, bucket, CAST(sum(count) AS bigint) AS count
        FROM (
            SELECT '' AS dimension, '' AS value, measure, day, bucket, count FROM facts
            UNION ALL
            SELECT 'product', product, measure, day, bucket, count
            FROM facts, LATERAL (SELECT DISTINCT unnest(products)) AS each (product)
            UNION ALL
            SELECT 'decided_by', decided_by, measure, day, bucket, count FROM facts WHERE decided_by IS NOT NULL
            UNION ALL
            SELECT 'reason', reason, measure, day, bucket, count FROM facts WHERE reason IS NOT NULL
        ) AS counted
        GROUP BY dimension, measure, day, value, bucket
    ), waited AS MATERIALIZED (
        SELECT statistics_day(created_at) AS registered, statistics_day(updated_at) AS decided,
               min(created_at) AS oldest
        FROM happened
        WHERE is_decision
        GROUP BY registered, decided
    )
"""  # noqa: S608 - of constants

# The last position that is counted; no row while another process counts, or the migration.
LOCK_PROGRESS = text("SELECT position FROM statistics_progress WHERE is_ready FOR UPDATE SKIP LOCKED")

# The age in seconds of the oldest event that has a position and is not counted; no row if all are.
FIND_AGE = text("""
    SELECT CAST(extract(epoch FROM clock_timestamp() - event.at) AS float8)
    FROM event_positions
    JOIN candidate_events AS event ON event.id = event_positions.event_id
    WHERE event_positions.position > (SELECT position FROM statistics_progress)
    ORDER BY event_positions.position
    LIMIT 1
""")

# Count the events at the next :limit positions, once: the position moves with the counts. Return how many there were.
COUNT = statement(
    """
    WITH seen AS MATERIALIZED (
        SELECT position, event_id FROM event_positions WHERE position > :position ORDER BY position LIMIT :limit
    ), {increments}, added AS (
        INSERT INTO daily_statistics AS kept (dimension, measure, day, value, bucket, count)
        SELECT dimension, measure, day, value, bucket, count FROM increments
        ON CONFLICT (dimension, measure, day, value, bucket) DO UPDATE SET count = kept.count + excluded.count
    ), added_backlogs AS (
        INSERT INTO daily_backlogs AS kept (day, oldest)
        SELECT registered + ago, min(oldest)
        FROM waited, generate_series(0, decided - registered - 1) AS ago
        GROUP BY registered + ago
        ON CONFLICT (day) DO UPDATE SET oldest = least(kept.oldest, excluded.oldest)
    ), moved AS (
        UPDATE statistics_progress
        SET position = last.position
        FROM (SELECT max(position) AS position FROM seen) AS last
        WHERE last.position IS NOT NULL
    )
    SELECT count(*) FROM seen
    """,
    increments=INCREMENTS,
).bindparams(REASONS)

# For the transaction: its statements see the same events.
ONE_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

# The events that are not counted yet, at most :limit of those with a position and of those without.
_UNCOUNTED = """
    seen AS MATERIALIZED (
        (
            SELECT event_id FROM event_positions
            WHERE position > (SELECT position FROM statistics_progress)
            ORDER BY position LIMIT :limit
        )
        UNION ALL
        (SELECT event_id FROM event_queue ORDER BY event_id LIMIT :limit)
    )
"""
_DAYS = (bindparam("first", type_=Date), bindparam("last", type_=Date))

# The counts of each value and bucket, and of each value in all (start NULL), with percentiles of the time to decision.
# Of more than :max_values values, those with the fewest decisions are added up.
READ_COUNTS = statement(
    """
    WITH {uncounted}, {increments}, counts AS MATERIALIZED (
        SELECT value, measure, day, bucket, count
        FROM daily_statistics
        WHERE dimension = :dimension AND measure = ANY(:measures) AND day BETWEEN :first AND :last
        UNION ALL
        SELECT value, measure, day, bucket, count
        FROM increments
        WHERE dimension = :dimension AND measure = ANY(:measures) AND day BETWEEN :first AND :last
    ), busiest AS (
        SELECT value, sum(count) AS decided FROM counts GROUP BY value ORDER BY decided DESC, value LIMIT :max_values
    ), grouped AS MATERIALIZED (
        SELECT coalesce(busiest.value, '{others}') AS value, measure, bucket,
               CAST(date_trunc(:interval, CAST(day AS timestamp)) AS date) AS start, sum(count) AS count
        FROM counts
        LEFT JOIN busiest ON busiest.value = counts.value
        GROUP BY GROUPING SETS ((1, measure, bucket, start), (1, measure, bucket))
    ), decided AS (
        SELECT value, start, bucket,
               sum(sum(count)) OVER (PARTITION BY value, start ORDER BY bucket) AS up_to,
               sum(sum(count)) OVER (PARTITION BY value, start) AS total
        FROM grouped
        WHERE measure IN ('approved', 'rejected')
        GROUP BY value, start, bucket
    ), percentiles AS (
        SELECT value, start,
               min(bucket) FILTER (WHERE 100 * up_to >= 50 * total) AS p50,
               min(bucket) FILTER (WHERE 100 * up_to >= 90 * total) AS p90,
               min(bucket) FILTER (WHERE 100 * up_to >= 95 * total) AS p95
        FROM decided
        GROUP BY value, start
    ), sums AS (
        SELECT value, start, {sums}
        FROM grouped
        GROUP BY value, start
    )
    SELECT sums.*, p50, p90, p95
    FROM sums
    LEFT JOIN percentiles ON percentiles.value = sums.value AND percentiles.start IS NOT DISTINCT FROM sums.start
    """,
    uncounted=_UNCOUNTED,
    increments=INCREMENTS,
    others=OTHERS,
    sums=", ".join(
        f"CAST(coalesce(sum(count) FILTER (WHERE measure = '{measure}'), 0) AS bigint) AS {column}"
        for measure, column in (
            ("registered", "registered"),
            ("approved", "approved"),
            ("rejected", "rejected"),
            *((f"outcome.{outcome}", f"outcome_{outcome}") for outcome in OUTCOMES),
        )
    ),
).bindparams(REASONS, *_DAYS)

# How many candidates were pending at the end of the day before :first (start NULL), and the change in each bucket.
READ_BACKLOG = statement(
    """
    WITH {uncounted}, {increments}
    SELECT value, CASE WHEN day >= :first THEN CAST(date_trunc(:interval, CAST(day AS timestamp)) AS date) END AS start,
           CAST(sum(count) AS bigint) AS change
    FROM (
        SELECT value, day, count FROM daily_statistics
        WHERE dimension = :dimension AND measure = 'pending' AND day <= :last
        UNION ALL
        SELECT value, day, count FROM increments
        WHERE dimension = :dimension AND measure = 'pending' AND day <= :last
    ) AS changes
    GROUP BY 1, 2
    """,
    uncounted=_UNCOUNTED,
    increments=INCREMENTS,
).bindparams(REASONS, *_DAYS)

# When the oldest candidate registered that was pending at the end of each of these :days, of those decided since.
READ_OLDEST = statement(
    """
    WITH {uncounted}, {increments}
    SELECT day, min(oldest) AS oldest
    FROM (
        SELECT day, oldest FROM daily_backlogs WHERE day = ANY(:days)
        UNION ALL
        SELECT day, oldest
        FROM unnest(CAST(:days AS date[])) AS day
        JOIN waited ON waited.registered <= day AND waited.decided > day
    ) AS waiting
    GROUP BY day
    """,
    uncounted=_UNCOUNTED,
    increments=INCREMENTS,
).bindparams(REASONS)

# Whether more events than :limit wait to be counted, so that the statements above do not have all of them.
HAS_MORE_UNCOUNTED = text("""
    SELECT NOT is_ready
           OR EXISTS (SELECT FROM event_positions WHERE event_positions.position > statistics_progress.position
                      OFFSET :limit)
           OR EXISTS (SELECT FROM event_queue OFFSET :limit)
    FROM statistics_progress
""")

# The e-mail addresses of users, and the names of API keys.
FIND_NAMES = text("""
    SELECT CAST(id AS text) AS id, email AS name FROM users WHERE id = ANY(CAST(:ids AS uuid[]))
    UNION ALL
    SELECT CAST(id AS text), name FROM api_keys WHERE id = ANY(CAST(:ids AS uuid[]))
""")

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
