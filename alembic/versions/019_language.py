"""The language of a company: that of its form, or the one given in the API.

Why: the pages for companies are in several languages, and e-mails will be. NULL if unknown: existing rows, rows written
by an older release, and registrations without it.
"""

from __future__ import annotations

from alembic import op

revision = "019_language"
down_revision = "018_functions_and_sessions"
branch_labels = None
depends_on = None

# A tag of RFC 5646, with the maximum length of its section 4.4.1.
IS_TAG = "length(language) <= 35 AND language ~ '^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$'"


def upgrade() -> None:
    """Add the column without rewriting rows; its constraint applies to new rows first, then to all."""
    op.execute("ALTER TABLE candidates ADD COLUMN IF NOT EXISTS language text")
    with op.get_context().autocommit_block():
        op.execute(f"""
            ALTER TABLE candidates
                -- squawk-ignore ban-drop-constraint
                DROP CONSTRAINT IF EXISTS ck_candidates_language,
                ADD CONSTRAINT ck_candidates_language CHECK ({IS_TAG}) NOT VALID
        """)
        op.execute("ALTER TABLE candidates VALIDATE CONSTRAINT ck_candidates_language")


def downgrade() -> None:
    """Drop the column, and with it each company's language."""
    op.execute("ALTER TABLE candidates DROP COLUMN IF EXISTS language")
