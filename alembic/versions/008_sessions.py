"""Sessions of staff and their refresh tokens.

Why: an access token is verified without a query, so it names a session, which can be revoked before the token expires.
A refresh token is stored as a hash and can be used once; reuse may mean theft, and ends the session.
"""

from __future__ import annotations

from alembic import op

revision = "008_sessions"
down_revision = "007_decision_checks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        CREATE TABLE sessions (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            user_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            revoked_at timestamptz,
            CONSTRAINT pk_sessions PRIMARY KEY (id),
            CONSTRAINT fk_sessions_user_id FOREIGN KEY (user_id) REFERENCES users (id)
        )
    """)
    op.execute("CREATE INDEX ix_sessions_user_id ON sessions (user_id)")
    op.execute("CREATE INDEX ix_sessions_expires_at ON sessions (expires_at)")
    # Every process polls for new revocations.
    op.execute("CREATE INDEX ix_sessions_revoked_at ON sessions (revoked_at) WHERE revoked_at IS NOT NULL")
    op.execute("""
        CREATE TABLE refresh_tokens (
            token_hash bytea NOT NULL,
            session_id uuid NOT NULL,
            expires_at timestamptz NOT NULL,
            used_at timestamptz,
            CONSTRAINT pk_refresh_tokens PRIMARY KEY (token_hash),
            CONSTRAINT fk_refresh_tokens_session_id
                FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_refresh_tokens_session_id ON refresh_tokens (session_id)")


def downgrade() -> None:
    """Drop the tables: all users must sign in again."""
    op.execute("DROP TABLE refresh_tokens")
    op.execute("DROP TABLE sessions")
