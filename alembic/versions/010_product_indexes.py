"""An index in the order of lists for each product.

Why: the GIN index finds the candidates with a product, but not in the order of the list, so that the cost of a page
grew with the number of candidates. Each new index has only the candidates with one product, in the list's order, and
holds their status, so that counting by status does not read the rows.
"""

from __future__ import annotations

from alembic import op

revision = "010_product_indexes"
down_revision = "009_list_indexes_and_counts"
branch_labels = None
depends_on = None

NEW_INDEXES = {
    f"ix_candidates_{product}": f"(created_at DESC, id DESC) INCLUDE (status) WHERE products @> ARRAY['{product}']"
    for product in ("apples", "oranges", "grapes", "bananas", "mangoes")
}
OLD_INDEXES = {"ix_candidates_products": "USING gin (products)"}


def _replace_indexes(new: dict[str, str], old: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # index builds wait for running transactions, and block nothing
        for name, definition in new.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # an interrupted run may have left an invalid one
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON candidates {definition}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute("SET lock_timeout = '50ms'")


def upgrade() -> None:
    """Build the new indexes concurrently, then drop the old one."""
    _replace_indexes(NEW_INDEXES, OLD_INDEXES)


def downgrade() -> None:
    """Build the old index, then drop the new ones."""
    _replace_indexes(OLD_INDEXES, NEW_INDEXES)
