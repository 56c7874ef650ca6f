"""An index in the order of lists for each product.

Why: the GIN index finds the candidates with a product, but not in the order of the list, so that the cost of a page
grew with the number of candidates. Each new index has only the candidates with one product, in the list's order, and
holds their status, so that counting by status does not read the rows.
"""

from __future__ import annotations

from provider_registration.db.index_builds import replace_indexes

revision = "010_product_indexes"
down_revision = "009_list_indexes_and_counts"
branch_labels = None
depends_on = None

NEW_INDEXES = {
    f"ix_candidates_{product}": f"(created_at DESC, id DESC) INCLUDE (status) WHERE products @> ARRAY['{product}']"
    for product in ("apples", "oranges", "grapes", "bananas", "mangoes")
}
OLD_INDEXES = {"ix_candidates_products": "USING gin (products)"}


def upgrade() -> None:
    """Build the new indexes concurrently, then drop the old one."""
    replace_indexes("candidates", OLD_INDEXES, NEW_INDEXES)


def downgrade() -> None:
    """Build the old index, then drop the new ones."""
    replace_indexes("candidates", NEW_INDEXES, OLD_INDEXES)
