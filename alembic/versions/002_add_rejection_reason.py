"""Why a candidate was rejected.

Why: colleagues and the company may want to know the reason later.
"""

from __future__ import annotations

from alembic import op

revision = "002_add_rejection_reason"
down_revision = "001_add_version_column"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty."""
    op.execute("ALTER TABLE candidates ADD COLUMN rejection_reason varchar(1000)")


def downgrade() -> None:
    """Drop the reasons."""
    op.execute("ALTER TABLE candidates DROP COLUMN rejection_reason")
