"""A migration that is killed half-way: the same command continues, and nothing left over blocks it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from provider_registration.db import migrations
from provider_registration.db.migrations import MigrationError
from tests.forked import ForkServer

ROOT = Path(__file__).parents[3]
GONE_SECONDS = 10  # several times PostgreSQL's interval for checking whether the client is still connected
BEFORE_AN_INDEX = "003_timestamps_with_time_zone"
BUILDING_SESSION = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%CREATE UNIQUE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
"""
INVALID_INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


@pytest.fixture
async def writer(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """An open transaction that has written rows: an index build waits for it."""
    await asyncio.to_thread(migrations.upgrade, empty_database_url, BEFORE_AN_INDEX)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("BEGIN")
    await connection.execute("DELETE FROM candidates")
    yield connection
    await connection.close()


async def until_building(connection: asyncpg.Connection) -> int:
    """Wait for the index build that waits for the writer; return the pid of its session."""
    async with asyncio.timeout(30):
        while (pid := await connection.fetchval(BUILDING_SESSION)) is None:
            await asyncio.sleep(0.05)
    return int(pid)


async def goes_on(url: str, schema: Callable[[str], Awaitable[str]]) -> None:
    """Run the same command again, and check that its result is the usual one."""
    await asyncio.to_thread(migrations.upgrade, url)
    assert await schema(url) == (ROOT / "schema.sql").read_text()


async def test_a_killed_migration_leaves_neither_its_session_nor_its_lock(
    empty_database_url: str,
    writer: asyncpg.Connection,
    connection: asyncpg.Connection,
    database_schema: Callable[[str], Awaitable[str]],
    fork_server: ForkServer,
) -> None:
    environment = os.environ | {"DATABASE_URL": empty_database_url}
    process = fork_server.start(["upgrade", "head"], environment, ROOT, program="alembic")
    await until_building(connection)

    process.kill()
    await asyncio.to_thread(process.communicate)

    async with asyncio.timeout(GONE_SECONDS):  # although its statement still waits
        while await connection.fetchval(BUILDING_SESSION) is not None:
            await asyncio.sleep(0.05)
    assert await connection.fetchval(INVALID_INDEXES) == "uq_candidates_contact_email_lower"
    await writer.execute("ROLLBACK")
    await goes_on(empty_database_url, database_schema)
    assert await connection.fetchval(INVALID_INDEXES) is None


async def test_a_migration_whose_session_is_ended_is_a_sentence(
    empty_database_url: str,
    writer: asyncpg.Connection,
    connection: asyncpg.Connection,
    database_schema: Callable[[str], Awaitable[str]],
) -> None:
    migrating = asyncio.create_task(asyncio.to_thread(migrations.upgrade, empty_database_url))
    session = await until_building(connection)

    await connection.execute("SELECT pg_terminate_backend($1)", session)

    with pytest.raises(MigrationError, match=r"ended the connection \(.*run the same command again"):
        await migrating
    await writer.execute("ROLLBACK")
    await goes_on(empty_database_url, database_schema)
