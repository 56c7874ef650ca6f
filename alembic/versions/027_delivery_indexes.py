"""When a message was queued, and indexes for each list of messages.

Why: the age of a message that staff sent again counted from its first event, and lists with some filters read every
message. `created_at` stays the time of the first attempt: e-mails are named by it.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import replace_indexes

revision = "027_delivery_indexes"
down_revision = "026_event_retention"
branch_labels = None
depends_on = None

# now() is the same for all rows, which are therefore not rewritten; new ones have the time of their insertion.
ADD_COLUMN = """
    ALTER TABLE deliveries
        ADD COLUMN IF NOT EXISTS queued_at timestamptz NOT NULL DEFAULT now(),
        -- squawk-ignore prefer-robust-stmts
        ALTER COLUMN queued_at SET DEFAULT clock_timestamp()
"""
INDEXES = {
    "ix_deliveries_queued_at": "(kind, target, queued_at) WHERE state IN ('pending', 'delivering')",
    "ix_deliveries_kind_state_id": "(kind, state, id)",
    "ix_deliveries_kind_target_state_id": "(kind, target, state, id)",
}
OLDER_INDEXES = {
    "ix_deliveries_waiting": "(kind, id) WHERE state IN ('pending', 'delivering')",
    "ix_deliveries_state_id": "(state, id)",
    "ix_deliveries_kind_target_id": "(kind, target, id)",
}


def upgrade() -> None:
    """Add the column and replace the indexes concurrently."""
    op.execute(ADD_COLUMN)
    replace_indexes("deliveries", OLDER_INDEXES, INDEXES)


def downgrade() -> None:
    """Bring the older indexes back, and drop the column."""
    replace_indexes("deliveries", INDEXES, OLDER_INDEXES)
    op.execute("ALTER TABLE deliveries DROP COLUMN IF EXISTS queued_at")
