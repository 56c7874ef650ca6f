"""When a message was queued, and indexes for each list of messages.

Why: the age of a message that staff sent again counted from its first event, and lists with some filters read every
message. `created_at` stays the time of the first attempt: e-mails are named by it.
"""

from __future__ import annotations

from alembic import op

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
    replace_indexes(OLDER_INDEXES, INDEXES)


def downgrade() -> None:
    """Bring the older indexes back, and drop the column."""
    replace_indexes(INDEXES, OLDER_INDEXES)
    op.execute("ALTER TABLE deliveries DROP COLUMN IF EXISTS queued_at")


def replace_indexes(old: dict[str, str], new: dict[str, str]) -> None:
    """Create the new ones, then drop the old ones."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # index builds wait for running transactions, and block nothing
        for name, definition in new.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # an interrupted run may have left an invalid one
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON deliveries {definition}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute("SET lock_timeout = '50ms'")
