"""E-mail addresses compared by a canonical form that the service writes.

Why: `lower()` depends on the database's LC_CTYPE, and handles neither composed characters nor the two forms of a
domain: `JOSÉ@bücher.example` and `josé@xn--bcher-kva.example` were different. `canonical_email` returns the form, and
the column is unique.

An earlier release keeps working: a trigger writes the form of plain ASCII addresses, which is lower case, and empties
it where Unicode's rules are needed; the service, and every command that takes an e-mail address, fills in empty ones.
The index on `lower()` stays, so that such a release finds its rows, and both indexes prevent duplicates.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from alembic import context, op
from alembic.util import CommandError
from sqlalchemy import text

from provider_registration.db.index_builds import building_indexes
from provider_registration.web.text import canonical_email

revision = "016_canonical_email"
down_revision = "015_rejected_by"
branch_labels = None
depends_on = None

BATCH = 1000  # rows that are locked at a time, for some 50 ms
SHOWN = 20  # addresses whose IDs the error message lists


class Addresses(NamedTuple):
    """A table with e-mail addresses."""

    table: str
    column: str
    canonical: str

    def sql(self, statement: str) -> str:
        """Insert the names of the table into a statement."""
        return statement.format(table=self.table, column=self.column, canonical=self.canonical)


CANDIDATES = Addresses("candidates", "contact_email", "contact_email_canonical")
USERS = Addresses("users", "email", "email_canonical")

# Rows whose canonical form may differ from the lower case, which is already unique.
FIND_UNUSUAL = """
    SELECT id, {column} AS address FROM {table}
    WHERE octet_length({column}) > char_length({column}) OR lower({column}) <> lower({column} COLLATE "C")
"""
FIND_USUAL = """
    SELECT id, lower({column} COLLATE "C") AS canonical FROM {table}
    WHERE lower({column} COLLATE "C") = ANY(:canonicals)
      AND octet_length({column}) = char_length({column}) AND lower({column}) = lower({column} COLLATE "C")
"""

# By the primary key alone: with IS NULL in the statement, the planner sorts the whole table for each batch.
FIND_BATCH = """
    SELECT id, {column} AS address, {canonical} IS NULL AS is_empty FROM {table}
    WHERE CAST(:after AS uuid) IS NULL OR id > :after
    ORDER BY id
    LIMIT :limit
"""
# Lock in the order of IDs, as all statements do that change several rows. The trigger handles concurrent changes.
FILL = """
    WITH filled AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:addresses AS text[]), CAST(:canonicals AS text[]))
            AS filled (id, address, canonical)
    ), locked AS (
        SELECT id FROM {table} WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE
    )
    UPDATE {table} SET {canonical} = filled.canonical
    FROM locked JOIN filled USING (id)
    WHERE {table}.id = locked.id AND {table}.{column} = filled.address AND {table}.{canonical} IS NULL
"""
# For `--sql`, without the service's function: the service fills the rest.
FILL_USUAL = """
    UPDATE {table} SET {canonical} = lower({column} COLLATE "C")
    WHERE {canonical} IS NULL AND octet_length({column}) = char_length({column})
"""

WRITE_USUAL = """
    CREATE OR REPLACE FUNCTION {table}_canonical_email() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        -- For ASCII it is the lower-case form; the service fills in the rest.
        NEW.{canonical} = CASE WHEN octet_length(NEW.{column}) = char_length(NEW.{column})
                          THEN lower(NEW.{column} COLLATE "C") END;
        RETURN NEW;
    END;
    $$
"""
TRIGGERS = (
    """
    CREATE OR REPLACE TRIGGER tr_{table}_canonical_email_inserted BEFORE INSERT ON {table}
    FOR EACH ROW WHEN (NEW.{canonical} IS NULL) EXECUTE FUNCTION {table}_canonical_email()
    """,
    """
    CREATE OR REPLACE TRIGGER tr_{table}_canonical_email_updated BEFORE UPDATE OF {column} ON {table}
    FOR EACH ROW WHEN (OLD.{column} <> NEW.{column} AND OLD.{canonical} IS NOT DISTINCT FROM NEW.{canonical})
    EXECUTE FUNCTION {table}_canonical_email()
    """,
)

# A new canonical form does not change the version, since decisions do not depend on it.
BEFORE_UPDATE_OF_CANDIDATES = """
    CREATE OR REPLACE TRIGGER tr_candidates_before_update BEFORE UPDATE ON candidates FOR EACH ROW
    WHEN (OLD.status_secret_hash IS NOT DISTINCT FROM NEW.status_secret_hash
          AND OLD.contact_email_canonical IS NOT DISTINCT FROM NEW.contact_email_canonical)
    EXECUTE FUNCTION candidates_before_update()
"""
BEFORE_UPDATE_OF_USERS = """
    CREATE OR REPLACE TRIGGER tr_users_before_update BEFORE UPDATE ON users FOR EACH ROW
    WHEN (OLD.email_canonical IS NOT DISTINCT FROM NEW.email_canonical)
    EXECUTE FUNCTION users_before_update()
"""
BEFORE_UPDATE_OF_CANDIDATES_AS_BEFORE = """
    CREATE OR REPLACE TRIGGER tr_candidates_before_update BEFORE UPDATE ON candidates FOR EACH ROW
    WHEN (OLD.status_secret_hash IS NOT DISTINCT FROM NEW.status_secret_hash)
    EXECUTE FUNCTION candidates_before_update()
"""
BEFORE_UPDATE_OF_USERS_AS_BEFORE = """
    CREATE OR REPLACE TRIGGER tr_users_before_update BEFORE UPDATE ON users FOR EACH ROW
    EXECUTE FUNCTION users_before_update()
"""


def _refuse_collisions() -> None:
    """Refuse duplicates: a person must decide which row keeps the address."""
    found = []
    for addresses in (CANDIDATES, USERS):
        ids = defaultdict(list)
        for row in op.get_bind().execute(text(addresses.sql(FIND_UNUSUAL))):
            ids[canonical_email(row.address)].append(row.id)
        if ids:
            for row in op.get_bind().execute(text(addresses.sql(FIND_USUAL)), {"canonicals": list(ids)}):
                ids[row.canonical].append(row.id)
        found += [f"{addresses.table} {', '.join(map(str, same))}" for same in ids.values() if len(same) > 1]
    if found:
        more = " …" if len(found) > SHOWN else ""
        raise CommandError(
            f"{len(found)} address(es) are shared by rows that spell them differently; nothing was changed. For each, "
            f"give all rows but one a different address, as OPERATIONS.md describes: {'; '.join(found[:SHOWN])}{more}"
        )


def _fill(addresses: Addresses) -> None:
    """Fill missing canonical forms in batches, so that row locks are short."""
    if context.is_offline_mode():
        op.execute(addresses.sql(FILL_USUAL))
        return
    connection, after = op.get_bind(), None
    while rows := connection.execute(text(addresses.sql(FIND_BATCH)), {"after": after, "limit": BATCH}).all():
        empty = [row for row in rows if row.is_empty]
        parameters = {
            "ids": [row.id for row in empty],
            "addresses": [row.address for row in empty],
            "canonicals": [canonical_email(row.address) for row in empty],
        }
        connection.execute(text(addresses.sql(FILL)), parameters)
        after = rows[-1].id


def upgrade() -> None:
    """Add the columns without rewriting rows, maintain them by trigger, fill them, and build their indexes."""
    if not context.is_offline_mode():
        _refuse_collisions()
    with op.get_context().autocommit_block():  # one table at a time, so that no lock waits for both
        for addresses in (CANDIDATES, USERS):
            op.execute(addresses.sql("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {canonical} text"))
            for statement in (WRITE_USUAL, *TRIGGERS):
                op.execute(addresses.sql(statement))
        op.execute(BEFORE_UPDATE_OF_CANDIDATES)
        op.execute(BEFORE_UPDATE_OF_USERS)
        for addresses in (CANDIDATES, USERS):
            _fill(addresses)
        with building_indexes():
            for addresses in (CANDIDATES, USERS):
                # An interrupted run may have left an invalid index.
                op.execute(addresses.sql("DROP INDEX CONCURRENTLY IF EXISTS uq_{table}_{canonical}"))
                op.execute(
                    addresses.sql(
                        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_{table}_{canonical} ON {table} ({canonical})"
                    )
                )


def downgrade() -> None:
    """Drop the columns; the addresses themselves do not change."""
    with op.get_context().autocommit_block():
        op.execute(BEFORE_UPDATE_OF_CANDIDATES_AS_BEFORE)
        op.execute(BEFORE_UPDATE_OF_USERS_AS_BEFORE)
        for addresses in (CANDIDATES, USERS):
            for event in ("inserted", "updated"):
                op.execute(addresses.sql(f"DROP TRIGGER IF EXISTS tr_{{table}}_canonical_email_{event} ON {{table}}"))
            op.execute(addresses.sql("DROP FUNCTION IF EXISTS {table}_canonical_email"))
            op.execute(addresses.sql("ALTER TABLE {table} DROP COLUMN IF EXISTS {canonical}"))
