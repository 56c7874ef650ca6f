"""The language that a company is written to in: what its form was in, or what the caller of the API said.

Why: pages for companies are in several languages, and e-mails will be. NULL where it is not known: rows from before,
those that an older release writes, and registrations that do not say it.
"""

from __future__ import annotations

from alembic import op

revision = "019_language"
down_revision = "018_functions_and_sessions"
branch_labels = None
depends_on = None

# A tag of RFC 5646, of the length that its section 4.4.1 has.
IS_TAG = "length(language) <= 35 AND language ~ '^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$'"


def upgrade() -> None:
    """Add the column, which rewrites no row; what it may hold is checked for new rows first, then for all."""
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
    """Drop the column: what language each company is written to in is forgotten."""
    op.execute("ALTER TABLE candidates DROP COLUMN IF EXISTS language")
