"""The privileges of the service role: those in the table, and no others."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.db.database import Database
from provider_registration.db.grants import BI_VIEW, PRIVILEGES, GrantError, check_name, grant_bi, grant_service
from provider_registration.settings import DatabaseSettings

LIST_PRIVILEGES = """
    SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = $1
    UNION
    SELECT table_name, privilege_type || ' (' || column_name || ')'
    FROM information_schema.column_privileges c
    WHERE grantee = $1 AND NOT EXISTS (
        SELECT FROM information_schema.role_table_grants t
        WHERE t.grantee = c.grantee AND t.table_name = c.table_name AND t.privilege_type = c.privilege_type
    )
"""


@pytest.fixture
async def grant(migrated_database_url):
    """Call grant_service as the owner of the tables."""
    database = Database(DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url, pool_size=2)

    async def grant(role):
        await grant_service(database, role)

    yield grant
    await database.close()


@pytest.fixture
async def owner(migrated_database_url):
    """A connection of the owner of the tables."""
    connection = await asyncpg.connect(migrated_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def role(owner):
    """A role without privileges; its name needs quoting."""
    name = f'serving "{uuid4().hex}'
    quoted = '"' + name.replace('"', '""') + '"'
    await owner.execute(f"CREATE ROLE {quoted}")
    yield name
    await owner.execute(f"DROP OWNED BY {quoted}")
    await owner.execute(f"DROP ROLE {quoted}")


async def privileges(owner, role):
    found = {}
    for row in await owner.fetch(LIST_PRIVILEGES, role):
        found.setdefault(row["table_name"], set()).add(row["privilege_type"])
    return found


@pytest.mark.asvs("V13.2.2")
async def test_the_role_gets_what_the_table_says(grant, owner, role):
    await grant(role)

    expected = {table: set(listed.split(", ")) for table, listed in PRIVILEGES.items()}
    assert await privileges(owner, role) == expected


async def test_what_it_had_beyond_that_is_taken_away(grant, owner, role):
    quoted = await owner.fetchval("SELECT quote_ident($1)", role)
    await owner.execute(f"GRANT ALL ON users, candidates TO {quoted}")

    await grant(role)

    found = await privileges(owner, role)
    assert found["users"] == {"SELECT", "UPDATE (password_hash)"}
    assert found["candidates"] == {"SELECT", "INSERT", "UPDATE"}


async def test_the_role_may_connect_and_nobody_makes_temporary_tables(grant, owner, role):
    database = await owner.fetchval("SELECT quote_ident(current_database())")
    await owner.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    try:
        await grant(role)

        held = "SELECT has_database_privilege($1, current_database(), $2)"
        assert [await owner.fetchval(held, role, each) for each in ("CONNECT", "TEMPORARY")] == [True, False]
    finally:
        await owner.execute(f"GRANT CONNECT ON DATABASE {database} TO PUBLIC")


async def test_every_table_is_covered(owner):
    tables = {
        row["table_name"]
        for row in await owner.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    }

    assert tables == {*PRIVILEGES, BI_VIEW}


async def test_two_that_grant_at_once_do_not_disturb_each_other(grant, owner, role):
    await asyncio.gather(*(grant(role) for _ in range(6)))

    assert set(await privileges(owner, role)) == set(PRIVILEGES)


async def test_the_owner_and_those_who_may_become_the_owner_are_refused(grant, owner, role):
    me = await owner.fetchval("SELECT current_user")
    with pytest.raises(GrantError, match="owns the tables"):
        await grant(me)

    quoted_me, quoted = await owner.fetchrow("SELECT quote_ident($1), quote_ident($2)", me, role)
    await owner.execute(f"GRANT {quoted_me} TO {quoted}")
    with pytest.raises(GrantError, match="owns the tables"):
        await grant(role)


@pytest.mark.parametrize("name", ["nobody-has-this", "", "x; DROP TABLE users", 'x"'])
async def test_an_unknown_role_is_refused(grant, name):
    with pytest.raises(GrantError, match="There is no role"):
        await grant(name)


PERSONAL = [
    *("company_name", "contact_email", "phone", "location"),
    *("rejection_reason", "language", "search_text", "status_secret_hash"),
]


async def test_a_role_of_reports_reads_the_view_and_nothing_else(owner, role, migrated_database_url):
    database = Database(DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url, pool_size=1)
    await grant_bi(database, role)
    await database.close()
    assert await privileges(owner, role) == {BI_VIEW: {"SELECT"}}

    quoted = await owner.fetchval("SELECT quote_ident($1)", role)
    async with owner.transaction():
        await owner.execute(f"SET LOCAL ROLE {quoted}")
        await owner.fetch("SELECT * FROM bi_candidates LIMIT 1")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with owner.transaction():
                await owner.fetch("SELECT FROM candidates")


async def test_the_view_has_no_personal_data_and_says_what_was_decided(owner):
    insert = """
        INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
        VALUES ($1::text, $1::text || '@example.org', '{apples}', 2, 10) RETURNING id
    """
    async with owner.transaction():
        pending, rejected = [await owner.fetchval(insert, uuid4().hex) for _ in range(2)]
        await owner.execute(
            "UPDATE candidates SET status = 'rejected', rejection_reason = 'No' WHERE id = $1", rejected
        )
        rows = {row["id"]: dict(row) for row in await owner.fetch("SELECT * FROM bi_candidates")}
        await owner.execute("DELETE FROM candidate_events WHERE candidate_id = ANY($1)", [pending, rejected])
        await owner.execute("DELETE FROM candidates WHERE id = ANY($1)", [pending, rejected])

    assert not set(PERSONAL) & rows[pending].keys()
    assert [rows[pending][name] for name in ("status", "decided_at", "decided_by")] == ["pending", None, None]
    assert [rows[rejected][name] for name in ("status", "decided_by", "truck_count")] == ["rejected", "service", 2]
    assert rows[rejected]["decided_at"] is not None


def test_the_name_of_a_role_is_checked_with_its_option():
    with pytest.raises(GrantError, match="--grant-bi-to must be"):
        check_name("", option="--grant-bi-to")
