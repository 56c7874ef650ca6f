"""The list of users, as commands keep it."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from provider_registration.auth import queries
from provider_registration.auth.models import Role
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings
from tests.service import PASSWORD, user_directory


async def test_the_first_admin_is_made_once(own_database_url):
    async with user_directory(own_database_url) as users:
        assert await users.create_first_admin("first@example.com", PASSWORD)
        assert await users.has_admin()
        assert not await users.create_first_admin("second@example.com", PASSWORD)


async def test_only_an_admin_who_can_log_in_is_one(own_database_url):
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

        await users.enable("maria@example.com")

        assert await users.has_admin()
        await users.disable("maria@example.com")
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
    """As while the password was checked."""
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    parameters = {"email": "maria@example.com", "email_canonical": "maria@example.com", "session_seconds": 60}
    async with user_directory(own_database_url) as users:
        await users.create(parameters["email"], PASSWORD, Role.VIEWER)
    async with database.transaction() as session:
        checked = (await session.execute(queries.FIND_CREDENTIALS, parameters)).mappings().one()
        if change:
            await session.execute(text(f"UPDATE users SET {change}"))

        asked = {**parameters, **checked, "user_id": checked["id"]}
        assert (await session.scalar(queries.BEGIN_SESSION, asked) is not None) is begins
    await database.close()
