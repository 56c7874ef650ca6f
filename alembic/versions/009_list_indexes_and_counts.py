"""Indexes in the order of lists, and counts maintained by triggers.

Why: a list's first page sorted the whole table, and its total counted it. The indexes have the order of the list; a
trigger maintains the number of candidates by status, in total and by product. The counts are spread over shards, so
that concurrent writes do not wait for each other, and are exact after every commit.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import replace_indexes

revision = "009_list_indexes_and_counts"
down_revision = "008_sessions"
branch_labels = None
depends_on = None

# An interrupted run may have left any part of this: all of it can be repeated.
# product '' stands for all candidates of a status.
COUNTS = """
    CREATE TABLE IF NOT EXISTS candidate_counts (
        product text NOT NULL,
        status varchar(20) NOT NULL,
        -- There are sixteen.
        -- squawk-ignore prefer-bigint-over-smallint
        shard smallint NOT NULL,
        count bigint NOT NULL,
        CONSTRAINT pk_candidate_counts PRIMARY KEY (product, status, shard)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
"""

# The trigger runs as the writing role: grant to current writers first, so that their writes do not fail.
GRANT_TO_WRITERS = """
    DO $$
    DECLARE
        writer text;
    BEGIN
        FOR writer IN
            SELECT DISTINCT CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END
            FROM pg_class, aclexplode(pg_class.relacl) AS granted
            WHERE pg_class.oid = 'candidates'::regclass AND granted.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
        LOOP
            EXECUTE 'GRANT SELECT, INSERT, UPDATE ON candidate_counts TO ' || writer;
        END LOOP;
    END
    $$
"""

# Once for each statement, and always in the same order, so that no two statements deadlock.
COUNT_CHANGES = """
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

FORGET_COUNTS = """
    CREATE OR REPLACE FUNCTION candidates_forget_counts() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM candidate_counts;
        RETURN NULL;
    END;
    $$
"""

TRIGGERS = (
    """
    CREATE OR REPLACE TRIGGER tr_candidates_count_inserted AFTER INSERT ON candidates
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION candidates_count_changes()
    """,
    """
    CREATE OR REPLACE TRIGGER tr_candidates_count_updated AFTER UPDATE ON candidates
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION candidates_count_changes()
    """,
    """
    CREATE OR REPLACE TRIGGER tr_candidates_count_deleted AFTER DELETE ON candidates
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION candidates_count_changes()
    """,
    """
    CREATE OR REPLACE TRIGGER tr_candidates_forget_counts AFTER TRUNCATE ON candidates
    FOR EACH STATEMENT EXECUTE FUNCTION candidates_forget_counts()
    """,
)

# A statement has one snapshot: add the difference found in it, because others may have changed the counts since.
RECOUNT = """
    CREATE OR REPLACE FUNCTION recount_candidates() RETURNS TABLE (product text, status varchar, missing bigint)
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

NEW_INDEXES = {
    "ix_candidates_created_at_id": "(created_at DESC, id DESC)",
    "ix_candidates_status_created_at_id": "(status, created_at DESC, id DESC)",
}
OLD_INDEXES = {
    "ix_candidates_created_at": "(created_at)",
    "ix_candidates_status": "(status)",
    "ix_candidates_version": "(version)",
}


def upgrade() -> None:
    """Build the indexes concurrently, start counting, then add the existing rows."""
    replace_indexes("candidates", OLD_INDEXES, NEW_INDEXES)
    for statement in (COUNTS, GRANT_TO_WRITERS, COUNT_CHANGES, FORGET_COUNTS, RECOUNT, *TRIGGERS):
        op.execute(statement)
    with op.get_context().autocommit_block():  # commits, so that writers count while this counts existing rows
        op.execute("SELECT recount_candidates()")


def downgrade() -> None:
    """Stop counting, and restore the old indexes."""
    for event in ("count_inserted", "count_updated", "count_deleted", "forget_counts"):
        op.execute(f"DROP TRIGGER IF EXISTS tr_candidates_{event} ON candidates")
    for function in ("recount_candidates", "candidates_count_changes", "candidates_forget_counts"):
        op.execute(f"DROP FUNCTION IF EXISTS {function}")
    op.execute("DROP TABLE IF EXISTS candidate_counts")
    replace_indexes("candidates", NEW_INDEXES, OLD_INDEXES)
