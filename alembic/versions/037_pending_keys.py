"""Shorter lists of pending entries of the indexes of keys.

Why: new entries collect in a list, and the statement that makes it too long merges it into the index. With 1,000,000
candidates, merging the 4 MB of the default took up to 1.3 s, longer than a statement may by default, so that filling
keys stood still; 0.5 MB took 0.5 s. Filling took half as much processor time again, and without a list more than twice
as much. Each search for a key reads the whole list, too.
https://www.postgresql.org/docs/current/gin.html#GIN-FAST-UPDATE
"""

from __future__ import annotations

from alembic import op

revision = "037_pending_keys"
down_revision = "036_unfinished_approval"
branch_labels = None
depends_on = None

INDEXES = ("ix_candidate_keys_keys", "ix_candidate_keys_word_keys")


def upgrade() -> None:
    """Limit the lists, and merge what is in them; the previous release goes on as before."""
    with op.get_context().autocommit_block():
        for index in INDEXES:
            op.execute(f"ALTER INDEX {index} SET (gin_pending_list_limit = 512)")
            op.execute(f"SELECT gin_clean_pending_list('{index}')")  # blocks nobody


def downgrade() -> None:
    """Return to the default."""
    with op.get_context().autocommit_block():
        for index in INDEXES:
            op.execute(f"ALTER INDEX {index} RESET (gin_pending_list_limit)")
