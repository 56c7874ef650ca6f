"""Imports: the rows of a file until they are registered, and what was wrong with them.

Why: a file is corrected and sent again, and any process can go on after the one that received it died.
"""

from __future__ import annotations

from alembic import op

revision = "034_imports"
down_revision = "033_jobs"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS imports (
        id uuid NOT NULL,
        is_read boolean NOT NULL DEFAULT false,
        format text,
        details jsonb NOT NULL DEFAULT '{}',
        columns jsonb NOT NULL DEFAULT '[]',
        mapping jsonb NOT NULL DEFAULT '{}',
        row_count integer NOT NULL DEFAULT 0,
        run integer NOT NULL DEFAULT 0,
        is_dry_run boolean,
        notify boolean NOT NULL DEFAULT false,
        job_id uuid,
        actor_kind text NOT NULL,
        actor_id uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        touched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT pk_imports PRIMARY KEY (id),
        CONSTRAINT ck_imports_actor CHECK (actor_kind IN ('user', 'api_key')),
        CONSTRAINT ck_imports_run CHECK ((run > 0) = (job_id IS NOT NULL) AND (run > 0) = (is_dry_run IS NOT NULL))
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS import_rows (
        import_id uuid NOT NULL,
        position integer NOT NULL,
        row_number integer NOT NULL,
        cells json,
        addresses text NOT NULL DEFAULT '',
        run integer NOT NULL DEFAULT 0,
        outcome text,
        errors json,
        email_canonical text,
        CONSTRAINT pk_import_rows PRIMARY KEY (import_id, position),
        CONSTRAINT fk_import_rows_import_id FOREIGN KEY (import_id) REFERENCES imports (id) ON DELETE CASCADE,
        CONSTRAINT ck_import_rows_outcome
            CHECK (outcome IN ('valid', 'invalid', 'registered', 'already_registered', 'erased'))
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX IF NOT EXISTS ix_imports_created_at ON imports (created_at, id)",
    """
    CREATE INDEX IF NOT EXISTS ix_import_rows_email_canonical ON import_rows (import_id, email_canonical)
    WHERE email_canonical IS NOT NULL
    """,
)


def upgrade() -> None:
    """Create the tables."""
    with op.get_context().autocommit_block():
        for statement in STATEMENTS:
            op.execute(f"-- squawk-ignore require-concurrent-index-creation\n{statement.strip()}")  # of new tables


def downgrade() -> None:
    """Drop them, and with them the rows that were not registered."""
    op.execute("DROP TABLE IF EXISTS import_rows")
    op.execute("DROP TABLE IF EXISTS imports")
