"""Webhooks: where events are sent, and the encrypted secrets that sign them.

Why: other systems react to decisions, and polling the feed is slow for them. Deliveries are those of 021_event_feed.
"""

from __future__ import annotations

from alembic import op

revision = "024_webhooks"
down_revision = "023_notifications"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute("""
        CREATE TABLE IF NOT EXISTS webhooks (
            id uuid NOT NULL,
            url text NOT NULL,
            types text[] NOT NULL DEFAULT '{}',
            description text NOT NULL DEFAULT '',
            secret bytea NOT NULL,
            previous_secret bytea,
            previous_secret_expires_at timestamptz,
            disabled_reason text,
            failing_since timestamptz,
            last_failure_at timestamptz,
            warned_at timestamptz,
            replay_since timestamptz,
            replay_at timestamptz,
            replay_id bigint,
            replay_until timestamptz,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            CONSTRAINT pk_webhooks PRIMARY KEY (id),
            CONSTRAINT ck_webhooks_disabled_reason CHECK (disabled_reason IN ('staff', 'gone', 'failing')),
            CONSTRAINT ck_webhooks_previous_secret
                CHECK ((previous_secret IS NULL) = (previous_secret_expires_at IS NULL)),
            CONSTRAINT ck_webhooks_failing CHECK ((failing_since IS NULL) = (last_failure_at IS NULL)),
            CONSTRAINT ck_webhooks_replay
                CHECK (num_nulls(replay_since, replay_at, replay_id, replay_until) IN (0, 4))
        )
    """)


def downgrade() -> None:
    """Drop the table, and with it all webhooks and their secrets."""
    op.execute("DROP TABLE IF EXISTS webhooks")
