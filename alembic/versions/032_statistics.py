"""Statistics by day, kept up to date from the feed of events, and a view without personal data.

Why: counting candidates of a year reads all of them, and events are removed after a time. The rows take some megabytes,
whatever the number of candidates. The service adds what happens after the position in statistics_progress; everything
before it is counted here, from the candidates, because their events may have been removed.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Connection, text

revision = "032_statistics"
down_revision = "031_search"
branch_labels = None
depends_on = None

BATCH = 20_000  # candidates per statement: each updates the rows of most days

# value: a product, a reason or the ID of a user; '' for all. bucket: of the time to decision, by statistics_bucket. The
# measure 'pending' is by how many the pending candidates have changed.
TABLES = (
    """
    CREATE TABLE IF NOT EXISTS daily_statistics (
        dimension text NOT NULL,
        measure text NOT NULL,
        day date NOT NULL,
        value text NOT NULL,
        -- squawk-ignore prefer-bigint-over-smallint
        bucket smallint NOT NULL,
        count bigint NOT NULL,
        CONSTRAINT pk_daily_statistics PRIMARY KEY (dimension, measure, day, value, bucket),
        CONSTRAINT ck_daily_statistics_dimension CHECK (dimension IN ('', 'product', 'decided_by', 'reason'))
    ) WITH (fillfactor = 70)
    """,
    # For each day, when the oldest candidate registered that was pending at its end and is decided now.
    """
    CREATE TABLE IF NOT EXISTS daily_backlogs (
        day date NOT NULL,
        oldest timestamptz NOT NULL,
        CONSTRAINT pk_daily_backlogs PRIMARY KEY (day)
    ) WITH (fillfactor = 70)
    """,
    # One row. backfilled_to: the candidates up to this ID are counted; the service begins when all are (is_ready).
    """
    CREATE TABLE IF NOT EXISTS statistics_progress (
        is_only boolean NOT NULL DEFAULT true,
        position bigint NOT NULL,
        backfilled_to uuid,
        is_ready boolean NOT NULL DEFAULT false,
        CONSTRAINT pk_statistics_progress PRIMARY KEY (is_only),
        CONSTRAINT ck_statistics_progress_is_only CHECK (is_only)
    ) WITH (fillfactor = 10)
    """,
)

# The day in UTC. A time outside this range is a mistake: it counts on the first or last day.
DAY = """
    CREATE OR REPLACE FUNCTION statistics_day(at timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CAST(least(greatest(at, '2000-01-01T00:00:00Z'), '2099-12-31T00:00:00Z') AT TIME ZONE 'UTC' AS date)
    $$
"""
# 16 buckets while the seconds double; each ends 4.4 % after it begins. The first one is up to a second.
BUCKET = """
    CREATE OR REPLACE FUNCTION statistics_bucket(registered timestamptz, decided timestamptz) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CAST(floor(16 * ln(greatest(CAST(extract(epoch FROM
            least(greatest(decided, '2000-01-01T00:00:00Z'), '2099-12-31T00:00:00Z')
            - least(greatest(registered, '2000-01-01T00:00:00Z'), '2099-12-31T00:00:00Z')
        ) AS float8), 1)) / ln(CAST(2 AS float8))) AS smallint)
    $$
"""

# What has no position yet is counted by the service.
BEGIN = """
    INSERT INTO statistics_progress (position) SELECT last_position FROM event_dispatcher ON CONFLICT DO NOTHING
"""
# Read in a statement of its own: the service may number events meanwhile, and counts those after the position.
COUNT = """
    WITH later AS MATERIALIZED (
        SELECT event.id, event.candidate_id, event.type, event.at
        FROM (
            SELECT event_id FROM event_positions WHERE position > (SELECT position FROM statistics_progress)
            UNION ALL
            SELECT event_id FROM event_queue
        ) AS uncounted
        JOIN candidate_events AS event ON event.id = uncounted.event_id
        WHERE {is_event_of_batch}
    ), batch AS MATERIALIZED (
        SELECT id, CAST(status AS text) AS status, products, created_at, updated_at, rejection_reason, rejected_by,
               contact_email = 'erased-' || id || '@erased.invalid' AS is_erased
        FROM candidates
        WHERE {is_in_batch}
    ), decisions AS MATERIALIZED (
        SELECT batch.*,
               CASE status
                   WHEN 'rejected' THEN rejected_by
                   ELSE (
                       SELECT actor_id FROM candidate_events AS event
                       WHERE event.candidate_id = batch.id AND event.type = 'candidate.approved'
                       ORDER BY event.at DESC, event.id DESC
                       LIMIT 1
                   )
               END AS decided_by
        FROM batch
        WHERE status <> 'pending'
          AND NOT EXISTS (
              SELECT FROM later
              WHERE later.candidate_id = batch.id
                AND (
                    later.type = 'candidate.' || batch.status
                    -- It was pending when it was erased.
                    OR later.type = 'candidate.erased'
                       AND batch.status = 'rejected'
                       AND later.at < batch.updated_at + interval '1 hour'
                       AND NOT EXISTS (
                           SELECT FROM candidate_events AS event
                           WHERE event.candidate_id = batch.id AND event.type = 'candidate.rejected'
                       )
                )
          )
    ), registrations AS (
        SELECT * FROM batch
        WHERE NOT EXISTS (
            SELECT FROM later WHERE later.candidate_id = batch.id AND later.type = 'candidate.registered'
        )
    ), facts AS (
        SELECT measure, statistics_day(created_at) AS day, 0 AS bucket, 1 AS count, products,
               CAST(NULL AS text) AS decided_by, CAST(NULL AS text) AS reason
        FROM registrations, unnest(ARRAY['registered', 'pending']) AS measure
        UNION ALL
        SELECT status, statistics_day(updated_at), statistics_bucket(created_at, updated_at), 1, products,
               coalesce(CAST(decided_by AS text), 'service'),
               CASE
                   WHEN status <> 'rejected' THEN NULL
                   WHEN is_erased THEN 'erased'
                   WHEN coalesce(rejection_reason, '') = '' THEN 'none'
                   ELSE coalesce(CAST({reasons} AS json) ->> rejection_reason, 'other')
               END
        FROM decisions
        UNION ALL
        SELECT 'pending', statistics_day(updated_at), 0, -1, products, NULL, NULL FROM decisions
        UNION ALL
        SELECT outcome.measure, statistics_day(event.at), 0, 1, batch.products, NULL, NULL
        FROM candidate_events AS event
        JOIN batch ON batch.id = event.candidate_id
        JOIN (VALUES
            ('candidate.approved', 'outcome.approved'),
            ('candidate.approval_linked', 'outcome.linked'),
            ('candidate.approval_failed', 'outcome.failed'),
            ('candidate.approval_in_doubt', 'outcome.in_doubt'),
            ('candidate.approval_released', 'outcome.let_go'),
            ('candidate.provider_orphaned', 'outcome.orphaned')
        ) AS outcome (type, measure) ON outcome.type = event.type
        WHERE event.data ? 'idempotency_key'
          AND NOT event.data ? 'linked'
          AND NOT EXISTS (SELECT FROM later WHERE later.id = event.id)
    ), increments AS (
        SELECT dimension, measure, day, value, bucket, sum(count) AS count
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
    ), added AS (
        INSERT INTO daily_statistics AS kept (dimension, measure, day, value, bucket, count)
        SELECT dimension, measure, day, value, bucket, count FROM increments
        ON CONFLICT (dimension, measure, day, value, bucket) DO UPDATE SET count = kept.count + excluded.count
    ), waited AS (
        SELECT statistics_day(created_at) AS registered, statistics_day(updated_at) AS decided,
               min(created_at) AS oldest
        FROM decisions
        GROUP BY registered, decided
    ), added_backlogs AS (
        INSERT INTO daily_backlogs AS kept (day, oldest)
        SELECT registered + ago, min(oldest)
        FROM waited, generate_series(0, decided - registered - 1) AS ago
        GROUP BY registered + ago
        ON CONFLICT (day) DO UPDATE SET oldest = least(kept.oldest, excluded.oldest)
    )
    UPDATE statistics_progress SET {progress}
"""
FIND_PROGRESS = text("SELECT backfilled_to, is_ready FROM statistics_progress")
# The first and the last of the next candidates, by the primary key.
FIND_BATCH = text("""
    SELECT (array_agg(id ORDER BY id))[1] AS first, (array_agg(id ORDER BY id))[count(*)] AS last
    FROM (
        SELECT id FROM candidates WHERE CAST(:after AS uuid) IS NULL OR id > :after ORDER BY id LIMIT :batch
    ) AS batch
""")
FINISH = "UPDATE statistics_progress SET is_ready = true"

# The reasons that staff can select, as codes. Other texts may have personal data.
REASONS = """
    {
        "We currently have enough suppliers of these products.": "enough_suppliers",
        "The capacity is too small for our routes.": "capacity_too_small",
        "We could not verify the company.": "not_verified",
        "The details are incomplete or inconsistent.": "incomplete",
        "The company is already registered.": "already_registered"
    }
"""

# For tools of business intelligence: no names, contacts, locations or reasons. decided_by: whether a person decided;
# NULL while pending, and if the event was removed.
VIEW = """
    CREATE OR REPLACE VIEW bi_candidates AS
    SELECT candidates.id,
           CAST(candidates.status AS text) AS status,
           candidates.products,
           candidates.capacity_tons_per_day,
           candidates.truck_count,
           candidates.created_at AS registered_at,
           CASE WHEN candidates.status <> 'pending' THEN candidates.updated_at END AS decided_at,
           CASE
               WHEN candidates.status = 'pending' THEN NULL
               WHEN candidates.rejected_by IS NOT NULL THEN 'user'
               ELSE (
                   SELECT event.actor_kind
                   FROM candidate_events AS event
                   WHERE event.candidate_id = candidates.id
                     AND event.type IN ('candidate.approved', 'candidate.rejected', 'candidate.erased')
                   ORDER BY event.at, event.id
                   LIMIT 1
               )
           END AS decided_by,
           candidates.provider_id,
           candidates.version
    FROM candidates
"""


def upgrade() -> None:
    """Create the tables and the view, and count the candidates."""
    with op.get_context().autocommit_block():  # one statement at a time
        for statement in (*TABLES, DAY, BUCKET, VIEW, BEGIN):
            op.execute(statement)
        if op.get_context().as_sql:
            op.execute(
                COUNT.format(
                    is_in_batch="true", is_event_of_batch="true", reasons=f"'{REASONS}'", progress="is_ready = true"
                )
            )
            return
        count_existing(op.get_bind())


def count_existing(connection: Connection) -> None:
    """Count the candidates after those that are counted, in batches, each of which commits its progress."""
    after, is_ready = connection.execute(FIND_PROGRESS).one()
    count = text(
        COUNT.format(
            is_in_batch="id >= :first AND id <= :last",
            is_event_of_batch="event.candidate_id >= :first AND event.candidate_id <= :last",
            reasons=":reasons",
            progress="backfilled_to = :last",
        )
    )
    while not is_ready:
        batch = connection.execute(FIND_BATCH, {"after": after, "batch": BATCH}).one()
        if batch.last is None:
            connection.execute(text(FINISH))
            return
        connection.execute(count, {"first": batch.first, "last": batch.last, "reasons": REASONS})
        after = batch.last


def downgrade() -> None:
    """Drop them. What is counted of candidates whose events were removed, or whose reasons were erased, is lost."""
    op.execute("DROP VIEW IF EXISTS bi_candidates")
    for table in ("statistics_progress", "daily_backlogs", "daily_statistics"):
        op.execute(f"DROP TABLE IF EXISTS {table}")
    op.execute("DROP FUNCTION IF EXISTS statistics_bucket(timestamptz, timestamptz)")
    op.execute("DROP FUNCTION IF EXISTS statistics_day(timestamptz)")
