"""An index of the messages that have ended, by which old ones are deleted.

Why: the index of all messages began with those that wait for a disabled webhook, once they were older than what is
kept. They are not deleted, so each look for messages to delete read them all, and finished no more.
"""

from __future__ import annotations

from alembic import op

revision = "038_ended_deliveries"
down_revision = "037_pending_keys"
branch_labels = None
depends_on = None

INDEXES = {"ix_deliveries_ended": "(updated_at) WHERE state NOT IN ('pending', 'delivering')"}
OLDER_INDEXES = {"ix_deliveries_updated_at": "(updated_at)"}


def upgrade() -> None:
    """Replace the index concurrently; the previous release uses the new one too."""
    replace_indexes(OLDER_INDEXES, INDEXES)


def downgrade() -> None:
    """Bring the older one back."""
    replace_indexes(INDEXES, OLDER_INDEXES)


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
