"""Functions for any search path, counts without waiting, and sessions of bounded length.

Why: `pg_dump --data-only` restores with an empty search path, in which the triggers found no table. One write in
sixteen waited for another open transaction that had updated the same counts. And a stolen password of the serving role
could create a session that outlives every password change.
"""

from __future__ import annotations

from alembic import op

revision = "018_functions_and_sessions"
down_revision = "017_search_text"
branch_labels = None
depends_on = None

# Those of 016 and 017 are not listed: they refer to no table.
FUNCTIONS = (
    "candidates_before_update()",
    "candidates_count_changes()",
    "candidates_forget_counts()",
    "recount_candidates()",
    "users_before_update()",
)

# Old and new bodies can run concurrently: an open transaction may still use the old one. The advisory
# locks have two keys: 1668183155, which is "cnts" in ASCII, and the shard.
COUNT_CHANGES = """
    CREATE OR REPLACE FUNCTION candidates_count_changes() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        mine integer := pg_backend_pid() % 16;
    BEGIN
        -- Skip counts that another open transaction has locked, and use the next free ones.
        FOR _ IN 1..16 LOOP
            EXIT WHEN pg_try_advisory_xact_lock(1668183155, mine);
            mine := (mine + 1) % 16;
        END LOOP;
        IF TG_OP = 'INSERT' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, mine, count(*), sum(capacity_tons_per_day)
            FROM new_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, mine, -count(*), -sum(capacity_tons_per_day)
            FROM old_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        ELSE
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, mine, sum(change), sum(tons)
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

# The version of 013_capacity_counts.
COUNT_CHANGES_BEFORE = """
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

# The schema of the functions and tables, whatever its name.
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format('ALTER FUNCTION {function} SET search_path = %I, pg_temp', current_schema());
    END
    $$
"""

# The same as auth.service.SESSION_SECONDS.
SHORTEN_SESSIONS = """
    UPDATE sessions SET expires_at = created_at + interval '168 hours'
    WHERE expires_at > created_at + interval '168 hours'
"""
DROP_LENGTH = "ALTER TABLE sessions DROP CONSTRAINT IF EXISTS ck_sessions_length"


def upgrade() -> None:
    """Replace and alter functions, which locks no table; the session constraint applies to new rows first."""
    op.execute(COUNT_CHANGES)
    for function in FUNCTIONS:
        op.execute(SET_SEARCH_PATH.format(function=function))
    with op.get_context().autocommit_block():
        op.execute("""
            ALTER TABLE sessions
                -- squawk-ignore ban-drop-constraint
                DROP CONSTRAINT IF EXISTS ck_sessions_length,
                ADD CONSTRAINT ck_sessions_length CHECK (expires_at <= created_at + interval '168 hours') NOT VALID
        """)
        op.execute(SHORTEN_SESSIONS)
        op.execute("ALTER TABLE sessions VALIDATE CONSTRAINT ck_sessions_length")


def downgrade() -> None:
    """Drop the limit on session length, and let functions use the caller's search path."""
    op.execute(DROP_LENGTH)
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function} RESET search_path")
    op.execute(COUNT_CHANGES_BEFORE)
