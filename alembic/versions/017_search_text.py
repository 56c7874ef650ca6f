"""The search text of a candidate, written by the service.

Why: the word index of 014_search_indexes depends on the database's locale: if LC_CTYPE is C, no search for acme finds
“Acme”. The text has words in plain Latin letters and digits, transliterated from any script, and a trigram index also
finds the middle of words. It needs pg_trgm, an extension that the owner of the database may create. It takes 19 MB for
100,000 candidates, the word index 9 MB; its pending list is merged at 256 kB, as there. The word index stays for the
previous release; a later revision drops it.
"""

from __future__ import annotations

import json

from alembic import op
from sqlalchemy import text

from provider_registration.candidates.search_text import search_text
from provider_registration.db.index_builds import replace_indexes

revision = "017_search_text"
down_revision = "016_canonical_email"
branch_labels = None
depends_on = None

BATCH = 1000  # rows per statement

REFUSE_WITHOUT_EXTENSION = """
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') THEN
            RETURN;
        ELSIF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
            RAISE EXCEPTION 'The server lacks the extension pg_trgm; install PostgreSQL''s contrib package there.';
        ELSIF NOT has_database_privilege(current_database(), 'CREATE') THEN
            RAISE EXCEPTION '% is not allowed to create the extension pg_trgm; run as the database''s owner: %',
                current_user, 'CREATE EXTENSION pg_trgm;';
        END IF;
    END
    $$
"""

# Filling the text changes neither the version nor updated_at.
BEFORE_UPDATE = """
    CREATE OR REPLACE FUNCTION candidates_before_update() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        filled record := OLD;
    BEGIN
        IF OLD.search_text IS NULL AND NEW.search_text IS NOT NULL THEN
            filled.search_text = NEW.search_text;
            IF filled IS NOT DISTINCT FROM NEW THEN
                RETURN NEW;
            END IF;
        END IF;
        NEW.updated_at = now();
        NEW.version = OLD.version + 1;
        RETURN NEW;
    END;
    $$
"""
# The version of 001_add_version_column.
BEFORE_UPDATE_AS_BEFORE = """
    CREATE OR REPLACE FUNCTION candidates_before_update() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    NEW.version = OLD.version + 1;
    RETURN NEW;
END;
$$
"""

# An older release changes the sources of the text but not the text: empty it until this release fills it.
EMPTY = """
    CREATE OR REPLACE FUNCTION candidates_empty_search_text() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        -- Not in the trigger's WHEN: a column that a trigger's WHEN names cannot change its type.
        IF (OLD.company_name, OLD.contact_email, OLD.phone, OLD.location)
            IS DISTINCT FROM (NEW.company_name, NEW.contact_email, NEW.phone, NEW.location) THEN
            NEW.search_text = NULL;
        END IF;
        RETURN NEW;
    END;
    $$
"""
TRIGGER = """
    CREATE OR REPLACE TRIGGER tr_candidates_empty_search_text BEFORE UPDATE ON candidates FOR EACH ROW
    WHEN (OLD.search_text IS NOT DISTINCT FROM NEW.search_text)
    EXECUTE FUNCTION candidates_empty_search_text()
"""

# By the primary key alone: with IS NULL in the statement, the planner sorts the whole table for each batch.
FIND_BATCH = text("""
    SELECT id, company_name, contact_email, phone, location, search_text IS NULL AS is_empty
    FROM candidates
    WHERE CAST(:after AS uuid) IS NULL OR id > :after
    ORDER BY id
    LIMIT :batch
""")

# Rows that are locked or changed meanwhile stay empty; the service fills them.
FILL = text("""
    WITH made AS (
        SELECT * FROM json_to_recordset(CAST(:made AS json))
            AS made (id uuid, company_name text, contact_email text, phone text, location text, search_text text)
    ), unchanged AS (
        SELECT candidates.id, made.search_text
        FROM candidates JOIN made USING (id)
        WHERE candidates.search_text IS NULL
          AND (candidates.company_name, candidates.contact_email, candidates.phone, candidates.location)
              IS NOT DISTINCT FROM (made.company_name, made.contact_email, made.phone, made.location)
        FOR NO KEY UPDATE OF candidates SKIP LOCKED
    )
    UPDATE candidates SET search_text = unchanged.search_text FROM unchanged WHERE candidates.id = unchanged.id
""")

INDEXES = {
    "ix_candidates_search_text": "USING gin (search_text gin_trgm_ops) WITH (gin_pending_list_limit = 256)",
    "ix_candidates_without_search_text": "(id) WHERE search_text IS NULL",
}


def upgrade() -> None:
    """Add the column without rewriting rows, fill it, and build its indexes concurrently."""
    op.execute(REFUSE_WITHOUT_EXTENSION)
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute("ALTER TABLE candidates ADD COLUMN IF NOT EXISTS search_text text")
    op.execute(BEFORE_UPDATE)
    op.execute(EMPTY)
    op.execute(TRIGGER)
    with op.get_context().autocommit_block():
        if not op.get_context().as_sql:  # else the service's processes fill it
            _fill()
    replace_indexes("candidates", (), INDEXES)


def _fill() -> None:
    connection, after = op.get_bind(), None
    while rows := connection.execute(FIND_BATCH, {"after": after, "batch": BATCH}).all():
        made = [
            {
                **row._asdict(),
                "id": str(row.id),
                "search_text": search_text(row.company_name, row.contact_email, row.phone, row.location),
            }
            for row in rows
            if row.is_empty
        ]
        connection.execute(FILL, {"made": json.dumps(made)})
        after = rows[-1].id


def downgrade() -> None:
    """Drop the column; the extension stays, since others may use it."""
    replace_indexes("candidates", INDEXES, {})
    # Take the strongest lock first: upgrading a weaker one could deadlock.
    op.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
    op.execute(BEFORE_UPDATE_AS_BEFORE)
    op.execute("DROP TRIGGER IF EXISTS tr_candidates_empty_search_text ON candidates")
    op.execute("""
        -- Only its trigger calls it.
        -- squawk-ignore ban-drop-function
        DROP FUNCTION IF EXISTS candidates_empty_search_text
    """)
    op.execute("ALTER TABLE candidates DROP COLUMN IF EXISTS search_text")
