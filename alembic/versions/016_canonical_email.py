"""E-mail addresses compared by one form that the service writes.

Why: `lower()` depends on the database's LC_CTYPE, and knows neither composed characters nor the two ways to write a
domain: `JOSÉ@bücher.example` and `josé@xn--bcher-kva.example` were two companies. `canonical_email` writes the form,
and the column is unique.

A release that does not know the column goes on: a trigger writes the form of what is plain ASCII, which is lower case,
and empties it where Unicode's rules are needed; the service, and every command about addresses, fills what is empty.
The index on `lower()` stays, so that such a release finds what it looks for, and both refuse what either has.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple
from uuid import UUID

from alembic import context, op
from alembic.util import CommandError
from sqlalchemy import text

from provider_registration.web.text import canonical_email

revision = "016_canonical_email"
down_revision = "015_rejected_by"
branch_labels = None
depends_on = None

BATCH = 1000  # rows that are locked at a time, for some 50 ms
SHOWN = 20  # addresses of which a refusal lists the ids


class Addresses(NamedTuple):
    """A table with addresses."""

    table: str
    column: str
    canonical: str

    def sql(self, statement: str) -> str:
        """A statement about the table."""
        return statement.format(table=self.table, column=self.column, canonical=self.canonical)


CANDIDATES = Addresses("candidates", "contact_email", "contact_email_canonical")
USERS = Addresses("users", "email", "email_canonical")

# Where the canonical form may be another than the lower case, by which addresses are unique already.
FIND_UNUSUAL = """
    SELECT id, {column} AS address FROM {table}
    WHERE octet_length({column}) > char_length({column}) OR lower({column}) <> lower({column} COLLATE "C")
"""
FIND_USUAL = """
    SELECT id, lower({column} COLLATE "C") AS canonical FROM {table}
    WHERE lower({column} COLLATE "C") = ANY(:canonicals)
      AND octet_length({column}) = char_length({column}) AND lower({column}) = lower({column} COLLATE "C")
"""

FIND_EMPTY = """
    SELECT id, {column} AS address FROM {table}
    WHERE id >= :first AND {canonical} IS NULL
    ORDER BY id
    LIMIT :limit
"""
# Locked in the order of ids, as others do who change several. What was changed meanwhile has its trigger.
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
# Without the service's function, as `--sql` is: the rest waits for the service.
FILL_USUAL = """
    UPDATE {table} SET {canonical} = lower({column} COLLATE "C")
    WHERE {canonical} IS NULL AND octet_length({column}) = char_length({column})
"""

WRITE_USUAL = """
    CREATE OR REPLACE FUNCTION {table}_canonical_email() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        -- Of ASCII it is lower case; the service fills the rest.
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

# Another way to write the address is no new version: nothing that anybody decides on has changed.
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
    """Which of two keeps an address is for people to decide."""
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
            f"{len(found)} address(es) are written in different ways by those who share them; nothing was changed. "
            f"Give all but one of each another address, as OPERATIONS.md has it: {'; '.join(found[:SHOWN])}{more}"
        )


def _fill(addresses: Addresses) -> None:
    """Write the canonical form of what has none, some rows at a time, so that nobody waits long for one."""
    if context.is_offline_mode():
        op.execute(addresses.sql(FILL_USUAL))
        return
    first, are_more = UUID(int=0), True
    while are_more:
        rows = op.get_bind().execute(text(addresses.sql(FIND_EMPTY)), {"first": first, "limit": BATCH}).all()
        parameters = {
            "ids": [row.id for row in rows],
            "addresses": [row.address for row in rows],
            "canonicals": [canonical_email(row.address) for row in rows],
        }
        op.get_bind().execute(text(addresses.sql(FILL)), parameters)
        if are_more := len(rows) == BATCH:
            first = rows[-1].id  # filled now, or with its trigger


def upgrade() -> None:
    """Add the columns, which rewrites no row, keep them from now on, fill them, and build their indexes."""
    if not context.is_offline_mode():
        _refuse_collisions()
    with op.get_context().autocommit_block():  # each by itself: nobody waits for two tables
        for addresses in (CANDIDATES, USERS):
            op.execute(addresses.sql("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {canonical} text"))
            for statement in (WRITE_USUAL, *TRIGGERS):
                op.execute(addresses.sql(statement))
        op.execute(BEFORE_UPDATE_OF_CANDIDATES)
        op.execute(BEFORE_UPDATE_OF_USERS)
        for addresses in (CANDIDATES, USERS):
            _fill(addresses)
        op.execute("SET lock_timeout = 0")  # they wait for running transactions, and nobody waits for them
        for addresses in (CANDIDATES, USERS):
            # An interrupted run may have left an invalid one.
            op.execute(addresses.sql("DROP INDEX CONCURRENTLY IF EXISTS uq_{table}_{canonical}"))
            op.execute(
                addresses.sql(
                    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_{table}_{canonical} ON {table} ({canonical})"
                )
            )
        op.execute("SET lock_timeout = '500ms'")


def downgrade() -> None:
    """Drop them: the addresses themselves are as they were written."""
    with op.get_context().autocommit_block():
        op.execute(BEFORE_UPDATE_OF_CANDIDATES_AS_BEFORE)
        op.execute(BEFORE_UPDATE_OF_USERS_AS_BEFORE)
        for addresses in (CANDIDATES, USERS):
            for event in ("inserted", "updated"):
                op.execute(addresses.sql(f"DROP TRIGGER IF EXISTS tr_{{table}}_canonical_email_{event} ON {{table}}"))
            op.execute(addresses.sql("DROP FUNCTION IF EXISTS {table}_canonical_email"))
            op.execute(addresses.sql("ALTER TABLE {table} DROP COLUMN IF EXISTS {canonical}"))
