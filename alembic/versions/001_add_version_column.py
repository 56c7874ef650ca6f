"""A version number that increases with every change of a candidate.

Why: two admins who view the same candidate must not overwrite each other's decision: the second one's version is out
of date. A trigger increments it, so that no statement can omit it.
"""

from __future__ import annotations

from alembic import op

revision = "001_add_version_column"
down_revision = "000_initial_schema"
branch_labels = None
depends_on = None

BEFORE_UPDATE = """
CREATE OR REPLACE FUNCTION candidates_before_update() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now() AT TIME ZONE 'utc';
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
    RETURN NEW;
END;
$$
"""


def upgrade() -> None:
    """Every candidate starts at version 1. A constant default rewrites no row and fires no trigger."""
    op.execute("ALTER TABLE candidates ADD COLUMN version integer NOT NULL DEFAULT 1")
    op.execute("ALTER TABLE candidates ADD CONSTRAINT ck_candidates_version CHECK (version >= 1)")
    op.execute("CREATE INDEX ix_candidates_version ON candidates (version)")
    op.execute(BEFORE_UPDATE)


def downgrade() -> None:
    """Drop the versions."""
    op.execute(EARLIER_BEFORE_UPDATE)
    op.execute("ALTER TABLE candidates DROP COLUMN version")
