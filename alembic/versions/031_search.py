"""Indexes of filters and orders of lists, and keys of words, to find names with a typing error.

Why: lists are filtered and sorted by capacity, trucks, name and last change, at the same cost for any number of rows.
The service computes hashes of the words of each name and stores them beside the other keys; it takes 200 bytes a
candidate. The index of words that search texts replaced (017) goes: it cost a registration more than the new ones do.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import replace_indexes

revision = "031_search"
down_revision = "030_idempotency_keys"
branch_labels = None
depends_on = None

# Of candidates.
INDEXES = {
    "ix_candidates_updated_at_id": "(updated_at, id)",
    "ix_candidates_capacity_id": "(capacity_tons_per_day, id)",
    "ix_candidates_trucks_id": "(truck_count, id)",
    "ix_candidates_company_name_id": "(company_name, id)",
}
OLDER_INDEXES = {
    "ix_candidates_words": (
        "USING gin (to_tsvector('simple', translate(company_name || ' ' || contact_email || ' ' "
        "|| coalesce(location, ''), '@._-+/<>&~', '          '))) WITH (gin_pending_list_limit = 256)"
    ),
}
# Of candidate_keys.
KEY_INDEXES = {
    "ix_candidate_keys_word_keys": "USING gin (word_keys)",
    "ix_candidate_keys_without_words": "(candidate_id) WHERE word_keys IS NULL",
}

EMPTY = """
    CREATE OR REPLACE FUNCTION candidates_empty_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        -- Not in the trigger's WHEN: a column that a trigger's WHEN names cannot change its type.
        IF (OLD.company_name, OLD.contact_email, OLD.phone)
            IS DISTINCT FROM (NEW.company_name, NEW.contact_email, NEW.phone) THEN
            UPDATE candidate_keys SET {columns} WHERE candidate_id = NEW.id;
        END IF;
        RETURN NULL;
    END;
    $$
"""
# CREATE OR REPLACE forgets it.
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format('ALTER FUNCTION candidates_empty_keys() SET search_path = %I, pg_temp', current_schema());
    END
    $$
"""


def upgrade() -> None:
    """Add the column, let its trigger empty it, and replace the indexes concurrently; the service fills the column."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE candidate_keys ADD COLUMN IF NOT EXISTS word_keys integer[]")
        op.execute(EMPTY.format(columns="keys = NULL, word_keys = NULL"))
        op.execute(SET_SEARCH_PATH)
    replace_indexes("candidate_keys", {}, KEY_INDEXES)
    replace_indexes("candidates", OLDER_INDEXES, INDEXES)


def downgrade() -> None:
    """Bring the older index back, and drop the column, which can be computed again."""
    replace_indexes("candidates", INDEXES, OLDER_INDEXES)
    with op.get_context().autocommit_block():
        op.execute(EMPTY.format(columns="keys = NULL"))
        op.execute(SET_SEARCH_PATH)
        op.execute("ALTER TABLE candidate_keys DROP COLUMN IF EXISTS word_keys")
