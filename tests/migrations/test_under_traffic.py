"""Migrations let others go on: nobody queues behind a step that waits, and writers keep what they need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from provider_registration import migrations
from provider_registration.database import Database
from provider_registration.grants import grant_service
from provider_registration.migrations import MigrationError
from provider_registration.settings import DatabaseSettings

BELOW_COUNTS = "008_sessions"
REGISTER = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ('Obsthof', $1 || '@obsthof.example', '{apples}', 1, 1)
"""
LONGEST_WAIT = 1.0  # seconds; a step gives way after half of it


@pytest.fixture
async def upgraded(empty_database_url: str) -> str:
    """At a revision whose downgrade takes triggers from the table, which nobody may use meanwhile."""
    await asyncio.to_thread(migrations.upgrade, empty_database_url, "009_list_indexes_and_counts")
    return empty_database_url


@pytest.fixture
async def reader(upgraded: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody in the middle of a long transaction that has read candidates."""
    connection = await asyncpg.connect(upgraded)
    await connection.execute("BEGIN")
    await connection.execute("SELECT FROM candidates")
    yield connection
    await connection.close()


async def test_nobody_queues_behind_a_step_that_waits_for_a_long_reader(
    upgraded: str, reader: asyncpg.Connection
) -> None:
    migrating = asyncio.create_task(asyncio.to_thread(migrations.downgrade, upgraded, BELOW_COUNTS))
    caller = await asyncpg.connect(upgraded)
    loop = asyncio.get_running_loop()
    waits = []
    while sum(wait > 0.1 for wait in waits) < 2:  # it tried, gave way, and tried again
        begun = loop.time()
        await caller.execute("SELECT FROM candidates LIMIT 1")
        waits.append(loop.time() - begun)
        await asyncio.sleep(0.02)
        assert not migrating.done(), "it did not wait for the reader"
    assert max(waits) < LONGEST_WAIT

    await reader.execute("ROLLBACK")

    await migrating
    assert await asyncio.to_thread(migrations.current, upgraded) == BELOW_COUNTS
    await caller.close()


@pytest.mark.usefixtures("reader")
async def test_a_destination_that_is_counted_is_not_tried_again(upgraded: str) -> None:
    with pytest.raises(MigrationError, match="stayed locked for too long; run the same command again"):
        await asyncio.to_thread(migrations.downgrade, upgraded, "-1")

    assert await asyncio.to_thread(migrations.current, upgraded) == "009_list_indexes_and_counts"


@pytest.fixture
async def serving_role(empty_database_url: str) -> AsyncIterator[str]:
    """A role that serves with the schema before counts, and its URL."""
    name = f"test_{uuid4().hex}"
    owner = await asyncpg.connect(empty_database_url)
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'choose-another'")
    await asyncio.to_thread(migrations.upgrade, empty_database_url, BELOW_COUNTS)
    url = DatabaseSettings(_env_file=None, database_url=empty_database_url).database_url
    database = Database(url, pool_size=1)
    await grant_service(database, name)
    await database.close()
    address = urlsplit(empty_database_url).netloc.rpartition("@")[2]
    yield urlsplit(empty_database_url)._replace(netloc=f"{name}:choose-another@{address}").geturl()
    await owner.execute(f"DROP OWNED BY {name}")
    await owner.execute(f"DROP ROLE {name}")
    await owner.close()


async def test_the_serving_role_writes_before_and_after_the_counts_come(
    empty_database_url: str, serving_role: str
) -> None:
    service = await asyncpg.connect(serving_role)
    await service.execute(REGISTER, "before")

    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    await service.execute(REGISTER, "after")  # nobody has granted anything since
    assert await service.fetchval("SELECT sum(count) FROM candidate_counts WHERE product = ''") == 2
    await service.close()
