"""How far the feed is published to a broker.

Why: one position in place of a delivery for each event. The process that holds the lease publishes the events after it.
"""

from __future__ import annotations

from alembic import op

revision = "025_broker"
down_revision = "024_webhooks"
branch_labels = None
depends_on = None

TABLE = """
    CREATE TABLE IF NOT EXISTS broker_positions (
        name text NOT NULL,
        position bigint NOT NULL,
        holder uuid,
        lease_ends_at timestamptz,
        CONSTRAINT pk_broker_positions PRIMARY KEY (name)
    ) WITH (fillfactor = 10)
"""


def upgrade() -> None:
    """Create the table; the first publisher adds its position."""
    op.execute(TABLE)


def downgrade() -> None:
    """Drop the table: publishing begins with the newest event again."""
    op.execute("DROP TABLE IF EXISTS broker_positions")
