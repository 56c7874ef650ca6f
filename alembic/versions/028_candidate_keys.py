"""The keys by which companies that may be the same are found.

Why: names with another legal form, word order or a typing error cannot be found by an index on the name. The service
computes some hashes of each candidate and stores them here; a trigger adds the row, and empties it when the facts
change, also for the previous release, so that nothing remains of erased data. It takes 150 bytes a candidate.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "028_candidate_keys"
down_revision = "027_delivery_indexes"
branch_labels = None
depends_on = None

BATCH = 1000  # rows per statement

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS candidate_keys (
        candidate_id uuid NOT NULL,
        keys bigint[],
        CONSTRAINT pk_candidate_keys PRIMARY KEY (candidate_id),
        CONSTRAINT fk_candidate_keys_candidate_id FOREIGN KEY (candidate_id)
            REFERENCES candidates (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_candidate_keys_keys ON candidate_keys USING gin (keys)",
    "CREATE INDEX IF NOT EXISTS ix_candidate_keys_empty ON candidate_keys (candidate_id) WHERE keys IS NULL",
)

# With the privileges of the owner: roles of the previous release have none on the table.
ADD = """
    CREATE OR REPLACE FUNCTION candidates_add_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO candidate_keys (candidate_id) SELECT id FROM added ON CONFLICT DO NOTHING;
        RETURN NULL;
    END;
    $$
"""
EMPTY = """
    CREATE OR REPLACE FUNCTION candidates_empty_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        -- Not in the trigger's WHEN: a column that a trigger's WHEN names cannot change its type.
        IF (OLD.company_name, OLD.contact_email, OLD.phone)
            IS DISTINCT FROM (NEW.company_name, NEW.contact_email, NEW.phone) THEN
            UPDATE candidate_keys SET keys = NULL WHERE candidate_id = NEW.id;
        END IF;
        RETURN NULL;
    END;
    $$
"""
# The schema of the table, whatever its name.
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format('ALTER FUNCTION candidates_add_keys() SET search_path = %I, pg_temp', current_schema());
        EXECUTE format('ALTER FUNCTION candidates_empty_keys() SET search_path = %I, pg_temp', current_schema());
    END
    $$
"""
TRIGGERS = (
    """
    CREATE OR REPLACE TRIGGER tr_candidates_add_keys AFTER INSERT ON candidates
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION candidates_add_keys()
    """,
    """
    CREATE OR REPLACE TRIGGER tr_candidates_empty_keys AFTER UPDATE ON candidates
    FOR EACH ROW EXECUTE FUNCTION candidates_empty_keys()
    """,
)

# The next candidates, by the primary key.
FIND_BATCH_END = text("""
    SELECT CAST(max(CAST(id AS text)) AS uuid) FROM (
        SELECT id FROM candidates WHERE CAST(:after AS uuid) IS NULL OR id > :after ORDER BY id LIMIT :batch
    ) AS batch
""")
ADD_BATCH = text("""
    INSERT INTO candidate_keys (candidate_id)
    SELECT id FROM candidates WHERE (CAST(:after AS uuid) IS NULL OR id > :after) AND id <= :last ORDER BY id
    ON CONFLICT DO NOTHING
""")
ADD_ALL = "INSERT INTO candidate_keys (candidate_id) SELECT id FROM candidates ON CONFLICT DO NOTHING"


def upgrade() -> None:
    """Create the table and its triggers, and add the rows in batches; the service's processes fill them."""
    with op.get_context().autocommit_block():  # one statement at a time, so that locks of tables in use are short
        for statement in (*TABLES, ADD, EMPTY, SET_SEARCH_PATH, *TRIGGERS):
            op.execute(f"-- squawk-ignore require-concurrent-index-creation\n{statement.strip()}")  # of a new table
        if op.get_context().as_sql:
            op.execute(ADD_ALL)
            return
        connection, after = op.get_bind(), None
        while last := connection.execute(FIND_BATCH_END, {"after": after, "batch": BATCH}).scalar():
            connection.execute(ADD_BATCH, {"after": after, "last": last})
            after = last


def downgrade() -> None:
    """Drop them; they can be computed again."""
    op.execute("DROP TRIGGER IF EXISTS tr_candidates_add_keys ON candidates")
    op.execute("DROP TRIGGER IF EXISTS tr_candidates_empty_keys ON candidates")
    op.execute("DROP FUNCTION IF EXISTS candidates_add_keys()")
    op.execute("DROP FUNCTION IF EXISTS candidates_empty_keys()")
    op.execute("DROP TABLE IF EXISTS candidate_keys")
