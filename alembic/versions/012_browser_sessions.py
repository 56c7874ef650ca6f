"""What a browser shows for a session of staff: a secret in a cookie, stored as a hash.

Why: pages are asked for by browsers, which keep a cookie, and not an access token. The session is one like any other,
so that whatever ends sessions ends this one too; the time it was last used lets it end when nobody sits there any more.
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
    """Drop the table: whoever is signed in to pages has to sign in again."""
    op.execute("DROP TABLE browser_sessions")
