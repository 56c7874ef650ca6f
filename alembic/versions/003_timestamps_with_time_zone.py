"""Timestamps with a time zone.

Why: sessions with different TimeZone settings interpret a timestamp without a time zone differently. All stored ones
are UTC. With the session itself in UTC, PostgreSQL changes the type without rewriting or scanning the rows (it
rebuilds the index on created_at), fires no trigger, and so keeps versions and updated_at as they are.
"""

from __future__ import annotations

from alembic import op

revision = "003_timestamps_with_time_zone"
down_revision = "002_add_rejection_reason"
branch_labels = None
depends_on = None

BEFORE_UPDATE = """
CREATE OR REPLACE FUNCTION candidates_before_update() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    NEW.version = OLD.version + 1;
    RETURN NEW;
END;
$$
"""

EARLIER_BEFORE_UPDATE = """
CREATE OR REPLACE FUNCTION candidates_before_update() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now() AT TIME ZONE 'utc';
    NEW.version = OLD.version + 1;
    RETURN NEW;
END;
$$
"""


def upgrade() -> None:
    """Convert the stored values, which are in UTC."""
    op.execute("SET LOCAL timezone = 'UTC'")
    # squawk warns of a rewrite, which does not happen, and of a dropped default, which the same statement sets again.
    op.execute("""
        ALTER TABLE candidates
            -- squawk-ignore ban-drop-default
            ALTER COLUMN created_at DROP DEFAULT,
            -- squawk-ignore changing-column-type
            ALTER COLUMN created_at TYPE timestamptz,
            ALTER COLUMN created_at SET DEFAULT now(),
            -- squawk-ignore ban-drop-default
            ALTER COLUMN updated_at DROP DEFAULT,
            -- squawk-ignore changing-column-type
            ALTER COLUMN updated_at TYPE timestamptz,
            ALTER COLUMN updated_at SET DEFAULT now()
    """)
    op.execute(BEFORE_UPDATE)


def downgrade() -> None:
    """Convert the values back to timestamps without a time zone, in UTC."""
    op.execute("SET LOCAL timezone = 'UTC'")
    op.execute("""
        ALTER TABLE candidates
            ALTER COLUMN created_at DROP DEFAULT,
            ALTER COLUMN created_at TYPE timestamp,
            ALTER COLUMN created_at SET DEFAULT (now() AT TIME ZONE 'utc'),
            ALTER COLUMN updated_at DROP DEFAULT,
            ALTER COLUMN updated_at TYPE timestamp,
            ALTER COLUMN updated_at SET DEFAULT (now() AT TIME ZONE 'utc')
    """)
    op.execute(EARLIER_BEFORE_UPDATE)
