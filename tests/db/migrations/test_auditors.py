"""022_audit_events: the role auditor, which an older release does not know."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from provider_registration.db import migrations

ADD = "INSERT INTO users (email, password_hash, role) VALUES ($1::text || '@example.com', '!', $1)"
ROLES = "SELECT role FROM users ORDER BY email"
BEFORE, AFTER = "021_event_feed", "022_audit_events"


async def test_auditors_become_viewers_below_it_and_nobody_can_become_one(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url, AFTER)
    for role in ("admin", "auditor", "viewer"):
        await connection.execute(ADD, role)

    await asyncio.to_thread(migrations.downgrade, empty_database_url, BEFORE)

    assert [row[0] for row in await connection.fetch(ROLES)] == ["admin", "viewer", "viewer"]
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("UPDATE users SET role = 'auditor'")

    await asyncio.to_thread(migrations.upgrade, empty_database_url, AFTER)
    await connection.execute("UPDATE users SET role = 'auditor' WHERE email LIKE 'auditor%'")


async def test_a_role_that_no_release_knows_is_refused(empty_database_url: str, connection: asyncpg.Connection) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url, AFTER)

    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(ADD, "owner")
