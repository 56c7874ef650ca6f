"""An index of the messages that have ended, by which old ones are deleted.

Why: the index of all messages began with those that wait for a disabled webhook, once they were older than what is
kept. They are not deleted, so each look for messages to delete read them all, and finished no more.
"""

from __future__ import annotations

from provider_registration.db.index_builds import replace_indexes

revision = "038_ended_deliveries"
down_revision = "037_pending_keys"
branch_labels = None
depends_on = None

INDEXES = {"ix_deliveries_ended": "(updated_at) WHERE state NOT IN ('pending', 'delivering')"}
OLDER_INDEXES = {"ix_deliveries_updated_at": "(updated_at)"}


def upgrade() -> None:
    """Replace the index concurrently; the previous release uses the new one too."""
    replace_indexes("deliveries", OLDER_INDEXES, INDEXES)


def downgrade() -> None:
    """Bring the older one back."""
    replace_indexes("deliveries", INDEXES, OLDER_INDEXES)
