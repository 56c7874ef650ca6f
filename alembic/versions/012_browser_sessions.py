"""Browser sessions of staff: the secret is in a cookie, and its hash is stored.

Why: browsers request pages with a cookie, not with an access token. Each cookie belongs to a session, so
whatever ends the session ends it too; idle ones are found by the time of their last use.
"""

from __future__ import annotations

from alembic import op

revision = "012_browser_sessions"
down_revision = "011_status_links"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute("""
        CREATE TABLE browser_sessions (
            secret_hash bytea NOT NULL,
            session_id uuid NOT NULL,
            seen_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_browser_sessions PRIMARY KEY (secret_hash),
            CONSTRAINT fk_browser_sessions_session_id
                FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_browser_sessions_session_id ON browser_sessions (session_id)")


def downgrade() -> None:
    """Drop the table: console users must sign in again."""
    op.execute("DROP TABLE browser_sessions")
