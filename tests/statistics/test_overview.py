"""The figures of now, once a minute for all users."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.candidates.models import Status
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings
from provider_registration.statistics import service
from provider_registration.statistics.service import StatisticsService

REGISTER = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ($1::text, $1::text || '@example.org', '{apples}', 1, 10) RETURNING id
"""


@pytest.fixture
async def connection(own_database_url):
    """A database with two pending candidates, an approved and a rejected one."""
    connection = await asyncpg.connect(own_database_url)
    candidates = [await connection.fetchval(REGISTER, uuid4().hex) for _ in range(4)]
    await connection.execute("UPDATE candidates SET status = 'approved', provider_id = 7 WHERE id = $1", candidates[0])
    await connection.execute("UPDATE candidates SET status = 'rejected' WHERE id = $1", candidates[1])
    yield connection
    await connection.close()


@pytest.fixture
async def statistics(own_database_url):
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    yield StatisticsService(database)
    await database.close()


async def test_candidates_are_counted_by_status_and_product(connection, statistics):
    overview = await statistics.overview()

    statuses = Counter(row["status"] for row in await connection.fetch("SELECT status FROM candidates"))
    assert overview.candidates == {status: statuses[status] for status in Status}
    [apples] = [offer for offer in overview.offers if offer.product == "apples"]
    assert (apples.candidates, apples.tons_per_day) == (overview.candidates, 10)
    assert overview.oldest_pending == await connection.fetchval(
        "SELECT min(created_at) FROM candidates WHERE status = 'pending'"
    )


async def test_all_users_share_what_is_computed_once_a_minute(connection, statistics, monkeypatch):
    first, *others = await asyncio.gather(*(statistics.overview() for _ in range(5)))
    assert all(other is first for other in others)
    await connection.fetchval(REGISTER, uuid4().hex)
    assert await statistics.overview() is first

    monkeypatch.setattr(service, "CACHE_SECONDS", 0.0)
    assert (await statistics.overview()).candidates[Status.PENDING] == first.candidates[Status.PENDING] + 1
