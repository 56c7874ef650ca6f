"""Links in e-mails, and how far the e-mails to staff have got.

Why: only the hash of a status link's secret is stored, so an e-mail that is sent later needs a link of its own. A
trigger ends those too when a candidate's link is replaced or its data erased, also by the previous release.
"""

from __future__ import annotations

from alembic import op

revision = "023_notifications"
down_revision = "022_audit_events"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS status_links (
        secret_hash bytea NOT NULL,
        candidate_id uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT pk_status_links PRIMARY KEY (secret_hash),
        CONSTRAINT fk_status_links_candidate_id FOREIGN KEY (candidate_id) REFERENCES candidates (id) ON DELETE CASCADE,
        CONSTRAINT ck_status_links_secret_hash CHECK (octet_length(secret_hash) = 32)
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_status_links_candidate_id ON status_links (candidate_id, created_at)",
    # One row: the last event that an e-mail told staff about, and when.
    """
    CREATE TABLE IF NOT EXISTS staff_digest (
        is_only boolean NOT NULL DEFAULT true,
        last_position bigint NOT NULL,
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT pk_staff_digest PRIMARY KEY (is_only),
        CONSTRAINT ck_staff_digest_is_only CHECK (is_only)
    )
    """,
)

END_LINKS = """
    CREATE OR REPLACE FUNCTION candidates_end_status_links() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        DELETE FROM status_links WHERE candidate_id = NEW.id;
        RETURN NULL;
    END;
    $$
"""
# The schema of the table, whatever its name.
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format('ALTER FUNCTION candidates_end_status_links() SET search_path = %I, pg_temp', current_schema());
    END
    $$
"""
TRIGGER = """
    CREATE OR REPLACE TRIGGER tr_candidates_end_status_links
    AFTER UPDATE OF status_secret_hash ON candidates FOR EACH ROW
    EXECUTE FUNCTION candidates_end_status_links()
"""


def upgrade() -> None:
    """Create the tables and the trigger."""
    with op.get_context().autocommit_block():  # one statement at a time, so that locks of tables in use are short
        for statement in (*TABLES, END_LINKS, SET_SEARCH_PATH, TRIGGER):
            op.execute(f"-- squawk-ignore require-concurrent-index-creation\n{statement.strip()}")  # of new tables


def downgrade() -> None:
    """Drop them; links in e-mails no longer work."""
    op.execute("DROP TRIGGER IF EXISTS tr_candidates_end_status_links ON candidates")
    op.execute("DROP FUNCTION IF EXISTS candidates_end_status_links()")
    op.execute("DROP TABLE IF EXISTS staff_digest")
    op.execute("DROP TABLE IF EXISTS status_links")
