"""The user directory that commands use."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import text

from provider_registration.auth import queries
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.errors import UserExists
from provider_registration.auth.models import Role
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings
from tests.service import PASSWORD, user_directory

MARIA = "maria@example.com"


async def test_the_first_admin_is_made_once(own_database_url):
    async with user_directory(own_database_url) as users:
        assert await users.create_first_admin("first@example.com", PASSWORD)
        assert await users.has_admin()
        assert not await users.create_first_admin("second@example.com", PASSWORD)


async def test_two_concurrent_starts_create_one_first_admin(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    async with user_directory(own_database_url) as users:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO users (email, email_canonical, password_hash, role) VALUES ($1, $2, 'x', 'admin')",
                *(MARIA, MARIA),
            )
            making = asyncio.create_task(users.create_first_admin(MARIA, PASSWORD))
            async with asyncio.timeout(20):
                while not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    await asyncio.sleep(0.01)

        assert await making is False
    await connection.close()


async def test_an_admin_added_while_the_password_is_hashed_stays_the_only_one(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)

    class SlowHasher:
        async def hash(self, _password):
            await connection.execute("INSERT INTO users (email, password_hash, role) VALUES ($1, 'x', 'admin')", MARIA)
            return "x"

    is_new = await UserDirectory(database, SlowHasher()).create_first_admin("another@example.com", PASSWORD)

    assert is_new is False
    assert [row["email"] for row in await connection.fetch("SELECT email FROM users")] == [MARIA]
    await database.close()
    await connection.close()


async def test_a_user_of_an_older_release_is_found_by_any_spelling(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("INSERT INTO users (email, password_hash, role) VALUES ('JOSÉ@x.example', 'x', 'viewer')")
    await connection.close()
    async with user_directory(own_database_url) as users:
        with pytest.raises(UserExists):
            await users.create("josé@x.example", PASSWORD, Role.VIEWER)
        assert await users.enable("José@x.example")


@pytest.mark.parametrize(("asked", "is_found"), [("MARIA@example.com", True), ("lena@example.com", False)])
async def test_only_a_user_of_an_older_release_signs_in_by_its_rules(own_database_url, asked, is_found):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("INSERT INTO users (email, password_hash, role) VALUES ($1, 'x', 'viewer')", MARIA)
    await connection.execute("UPDATE users SET email_canonical = NULL")
    await connection.close()
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)

    async with database.statement() as session:
        parameters = {"email": asked, "email_canonical": asked.lower()}
        found = (await session.execute(queries.FIND_CREDENTIALS, parameters)).mappings().one()

    assert (found["id"] is not None) is is_found
    await database.close()


async def test_when_a_user_was_disabled_is_not_written_again(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    when = "SELECT disabled_at FROM users"
    async with user_directory(own_database_url) as users:
        await users.create(MARIA, PASSWORD, Role.VIEWER)
        await users.disable(MARIA)
        first = await connection.fetchval(when)

        await users.disable(MARIA)

        assert await connection.fetchval(when) == first
    await connection.close()


async def test_only_an_enabled_admin_counts_as_admin(own_database_url):
    async with user_directory(own_database_url) as users:
        assert not await users.has_admin()
        await users.create("viewer@example.com", PASSWORD, Role.VIEWER)
        assert not await users.has_admin()
        await users.create("admin@example.com", PASSWORD, Role.ADMIN)
        assert await users.has_admin()

        await users.disable("admin@example.com")
        assert not await users.has_admin()
        await users.enable("admin@example.com")
        assert await users.has_admin()


async def test_whoever_is_enabled_is_the_only_one(own_database_url):
    async with user_directory(own_database_url) as users:
        for name in ("maria", "lena"):
            await users.create(f"{name}@example.com", PASSWORD, Role.ADMIN)
            await users.disable(f"{name}@example.com")

        await users.enable(MARIA)

        assert await users.has_admin()
        await users.disable(MARIA)
        assert not await users.has_admin()


@pytest.mark.parametrize(
    ("change", "begins"),
    [
        (None, True),
        ("disabled_at = now()", False),
        ("password_hash = 'another'", False),
        ("role = 'admin'", False),
    ],
)
async def test_no_session_begins_for_what_a_user_was_before_a_change(own_database_url, change, begins):
    """As if the change came while the password was being checked."""
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    parameters = {"email": MARIA, "email_canonical": MARIA, "session_seconds": 60, "kind": "api"}
    async with user_directory(own_database_url) as users:
        await users.create(parameters["email"], PASSWORD, Role.VIEWER)
    async with database.transaction() as session:
        checked = (await session.execute(queries.FIND_CREDENTIALS, parameters)).mappings().one()
        if change:
            await session.execute(text(f"UPDATE users SET {change}"))

        asked = {**parameters, **checked, "user_id": checked["id"]}
        assert (await session.scalar(queries.BEGIN_SESSION, asked) is not None) is begins
    await database.close()
