"""The answers kept for requests with an Idempotency-Key.

Why: a client that lost a response can repeat the request without a second effect, and gets the same response. Rows have
hashes of the key and the content, and what the response is made again from; they are deleted after 24 hours.
"""

from __future__ import annotations

from alembic import op

revision = "030_idempotency_keys"
down_revision = "029_api_keys"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS idempotency_keys (
        key_hash bytea NOT NULL,
        fingerprint bytea NOT NULL,
        candidate_id uuid,
        answer jsonb,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT pk_idempotency_keys PRIMARY KEY (key_hash),
        CONSTRAINT ck_idempotency_keys_key_hash CHECK (octet_length(key_hash) = 32)
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_idempotency_keys_created_at ON idempotency_keys (created_at)",
    """
    CREATE INDEX IF NOT EXISTS ix_idempotency_keys_candidate_id ON idempotency_keys (candidate_id)
    WHERE candidate_id IS NOT NULL
    """,
)


def upgrade() -> None:
    """Create the table; the previous release does not use it."""
    with op.get_context().autocommit_block():
        for statement in STATEMENTS:
            op.execute(f"-- squawk-ignore require-concurrent-index-creation\n{statement.strip()}")  # of a new table


def downgrade() -> None:
    """Drop it: repeated requests are new ones again."""
    op.execute("DROP TABLE IF EXISTS idempotency_keys")
