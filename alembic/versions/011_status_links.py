"""The hash of the secret in the link to a candidate's status page.

Why: a company has no account, so it sees its application through a link with a secret. Only the hash is stored, so that
reading the table does not reveal the link. Existing candidates have none until staff create one. A column of the
candidate costs a fifth of what a separate table would.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import building_indexes

revision = "011_status_links"
down_revision = "010_product_indexes"
branch_labels = None
depends_on = None

INDEX = "uq_candidates_status_secret_hash"

# A new link does not change the version, since decisions do not depend on it.
BEFORE_UPDATE = """
    CREATE OR REPLACE TRIGGER tr_candidates_before_update BEFORE UPDATE ON candidates FOR EACH ROW
    WHEN (OLD.status_secret_hash IS NOT DISTINCT FROM NEW.status_secret_hash)
    EXECUTE FUNCTION candidates_before_update()
"""
BEFORE_UPDATE_AS_BEFORE = """
    CREATE OR REPLACE TRIGGER tr_candidates_before_update BEFORE UPDATE ON candidates FOR EACH ROW
    EXECUTE FUNCTION candidates_before_update()
"""


def upgrade() -> None:
    """Add the column without rewriting rows, and build its index concurrently."""
    op.execute("ALTER TABLE candidates ADD COLUMN IF NOT EXISTS status_secret_hash bytea")
    op.execute(BEFORE_UPDATE)
    with op.get_context().autocommit_block(), building_indexes():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")  # an interrupted run may have left an invalid one
        op.execute(f"""
                CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON candidates (status_secret_hash)
                WHERE status_secret_hash IS NOT NULL
            """)


def downgrade() -> None:
    """Drop both: every link stops working."""
    # Take the strongest lock first: upgrading a weaker one could deadlock.
    op.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
    op.execute(BEFORE_UPDATE_AS_BEFORE)
    op.execute("ALTER TABLE candidates DROP COLUMN IF EXISTS status_secret_hash")
