"""An index of the words by which candidates are looked for, and one of decisions by when they were made.

Why: people look for a company by a word of its name, of its address or of its place. The index has the words, so that
it takes any beginning of them, in any order. It makes storing a candidate cost a fifth more; an index of all groups of
three letters, which finds the middle of words too, made it cost twice as much, and took three times as long for a word
that all have. New words are collected and sorted in at 256 kB: now and then somebody waits 20 ms for that, and not 120
as for the usual 4 MB; to sort in each at once would make every registration cost half more. Decisions are indexed when
they are made: a registration does not pay for that.
"""

from __future__ import annotations

from alembic import op

revision = "014_search_indexes"
down_revision = "013_capacity_counts"
branch_labels = None
depends_on = None

INDEXES = {
    # What is between words becomes a space: the parser would take an address or S.L. for one word, <script> for none.
    "ix_candidates_words": (
        "USING gin (to_tsvector('simple', translate(company_name || ' ' || contact_email || ' ' "
        "|| coalesce(location, ''), '@._-+/<>&~', '          '))) WITH (gin_pending_list_limit = 256)"
    ),
    "ix_candidates_decided_at": "(updated_at) INCLUDE (status, created_at) WHERE status <> 'pending'",
}


def upgrade() -> None:
    """Build the indexes while requests go on."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # they wait for running transactions, and nobody waits for them
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # an interrupted run may have left an invalid one
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON candidates {definition}")
        op.execute("SET lock_timeout = '500ms'")


def downgrade() -> None:
    """Drop the indexes."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # as above
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute("SET lock_timeout = '500ms'")
