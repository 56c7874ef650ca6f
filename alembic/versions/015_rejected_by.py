"""Who rejected a candidate.

Why: approvals are recorded with their user, and an admin who decides too late sees who decided; rejections had no user.
It stays unknown for existing rejections.
"""

from __future__ import annotations

from alembic import op

revision = "015_rejected_by"
down_revision = "014_search_indexes"
branch_labels = None
depends_on = None

CONSTRAINTS = {
    "fk_candidates_rejected_by": "FOREIGN KEY (rejected_by) REFERENCES users (id)",
    "ck_candidates_rejected_by_only_when_rejected": "CHECK (rejected_by IS NULL OR status = 'rejected')",
}


def upgrade() -> None:
    """Add the column without rewriting rows; its constraints apply to new rows first, then to all."""
    op.execute("ALTER TABLE candidates ADD COLUMN IF NOT EXISTS rejected_by uuid")
    with op.get_context().autocommit_block():
        for name, constraint in CONSTRAINTS.items():
            op.execute(f"""
                ALTER TABLE candidates
                    -- squawk-ignore ban-drop-constraint
                    DROP CONSTRAINT IF EXISTS {name},
                    ADD CONSTRAINT {name} {constraint} NOT VALID
            """)
        for name in CONSTRAINTS:
            op.execute(f"ALTER TABLE candidates VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    """Drop the column, and with it who rejected each candidate."""
    op.execute("ALTER TABLE candidates DROP COLUMN IF EXISTS rejected_by")
