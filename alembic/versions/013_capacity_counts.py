"""The capacity of suppliers, stored with the counts of candidates.

Why: the daily capacity for a product is a sum over the whole table. The trigger that maintains the counts maintains
this sum in the same rows, at almost no cost.
"""

from __future__ import annotations

from alembic import op

revision = "013_capacity_counts"
down_revision = "012_browser_sessions"
branch_labels = None
depends_on = None

# Open transactions use the old function, which would miss a dropped column or not add to a new one.
WAIT_FOR_WRITERS = "LOCK TABLE candidates IN SHARE ROW EXCLUSIVE MODE"

COUNT_CHANGES = """
    CREATE OR REPLACE FUNCTION candidates_count_changes() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, pg_backend_pid() % 16, count(*), sum(capacity_tons_per_day)
            FROM new_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, pg_backend_pid() % 16, -count(*), -sum(capacity_tons_per_day)
            FROM old_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        ELSE
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, pg_backend_pid() % 16, sum(change), sum(tons)
            FROM (
                SELECT status, products, 1 AS change, capacity_tons_per_day::bigint AS tons FROM new_rows
                UNION ALL
                SELECT status, products, -1, -capacity_tons_per_day::bigint FROM old_rows
            ) AS changed, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            HAVING sum(change) <> 0 OR sum(tons) <> 0
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        END IF;
        RETURN NULL;
    END;
    $$
"""

DROP_RECOUNT = """
    -- Only the command `recount` calls it, and finds the new one.
    -- squawk-ignore ban-drop-function
    DROP FUNCTION IF EXISTS recount_candidates
"""

# A statement has one snapshot: add the difference found in it, because others may have changed the counts since.
RECOUNT = """
    CREATE FUNCTION recount_candidates()
    RETURNS TABLE (product text, status varchar, missing bigint, missing_tons bigint)
    LANGUAGE sql AS $$
        WITH actual AS (
            SELECT counted.product, candidates.status,
                   count(*) AS count, sum(candidates.capacity_tons_per_day)::bigint AS tons
            FROM candidates, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY counted.product, candidates.status
        ), kept AS (
            SELECT candidate_counts.product, candidate_counts.status,
                   sum(candidate_counts.count)::bigint AS count, sum(candidate_counts.tons_per_day)::bigint AS tons
            FROM candidate_counts
            GROUP BY candidate_counts.product, candidate_counts.status
        ), differences AS (
            SELECT product, status,
                   coalesce(actual.count, 0) - coalesce(kept.count, 0) AS missing,
                   coalesce(actual.tons, 0) - coalesce(kept.tons, 0) AS missing_tons
            FROM actual FULL JOIN kept USING (product, status)
            WHERE coalesce(actual.count, 0) <> coalesce(kept.count, 0)
               OR coalesce(actual.tons, 0) <> coalesce(kept.tons, 0)
        ), mended AS (
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, 0, missing, missing_tons FROM differences ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day
        )
        SELECT product, status, missing, missing_tons FROM differences ORDER BY product, status
    $$
"""

# The versions of 009_list_indexes_and_counts.
COUNT_CHANGES_BEFORE = """
    CREATE OR REPLACE FUNCTION candidates_count_changes() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count)
            SELECT product, status, pg_backend_pid() % 16, count(*)
            FROM new_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE SET count = kept.count + excluded.count;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count)
            SELECT product, status, pg_backend_pid() % 16, -count(*)
            FROM old_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE SET count = kept.count + excluded.count;
        ELSE
            INSERT INTO candidate_counts AS kept (product, status, shard, count)
            SELECT product, status, pg_backend_pid() % 16, sum(change)
            FROM (
                SELECT status, products, 1 AS change FROM new_rows
                UNION ALL
                SELECT status, products, -1 FROM old_rows
            ) AS changed, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            HAVING sum(change) <> 0
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE SET count = kept.count + excluded.count;
        END IF;
        RETURN NULL;
    END;
    $$
"""
RECOUNT_BEFORE = """
    CREATE FUNCTION recount_candidates() RETURNS TABLE (product text, status varchar, missing bigint)
    LANGUAGE sql AS $$
        WITH actual AS (
            SELECT counted.product, candidates.status, count(*) AS count
            FROM candidates, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY counted.product, candidates.status
        ), kept AS (
            SELECT candidate_counts.product, candidate_counts.status, sum(candidate_counts.count)::bigint AS count
            FROM candidate_counts
            GROUP BY candidate_counts.product, candidate_counts.status
        ), differences AS (
            SELECT product, status, coalesce(actual.count, 0) - coalesce(kept.count, 0) AS missing
            FROM actual FULL JOIN kept USING (product, status)
            WHERE coalesce(actual.count, 0) <> coalesce(kept.count, 0)
        ), mended AS (
            INSERT INTO candidate_counts (product, status, shard, count)
            SELECT product, status, 0, missing FROM differences ORDER BY product, status
            ON CONFLICT (product, status, shard)
            DO UPDATE SET count = candidate_counts.count + excluded.count
        )
        SELECT product, status, missing FROM differences ORDER BY product, status
    $$
"""


def upgrade() -> None:
    """Add the column, start summing, then add the existing rows."""
    op.execute(WAIT_FOR_WRITERS)
    op.execute("ALTER TABLE candidate_counts ADD COLUMN IF NOT EXISTS tons_per_day bigint NOT NULL DEFAULT 0")
    op.execute(COUNT_CHANGES)
    op.execute(DROP_RECOUNT)
    op.execute(RECOUNT)
    with op.get_context().autocommit_block():  # commits, so that writers sum while this sums existing rows
        op.execute("SELECT recount_candidates()")


def downgrade() -> None:
    """Drop the sums."""
    op.execute(WAIT_FOR_WRITERS)
    op.execute(COUNT_CHANGES_BEFORE)
    op.execute(DROP_RECOUNT)
    op.execute(RECOUNT_BEFORE)
    op.execute("ALTER TABLE candidate_counts DROP COLUMN IF EXISTS tons_per_day")
