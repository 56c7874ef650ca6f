"""The figures of the overview: equal to a count of everything, whichever release wrote it, once a minute."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.candidates.models import Status
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings
from provider_registration.statistics import service
from provider_registration.statistics.service import DAYS, StatisticsService

BEFORE_THE_LOG = "019_language"
REGISTER = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ($1::text, $1::text || '@example.org', '{apples}', 1, 10) RETURNING id
"""
# As the release before the log records it, and as this one does.
OLD_EVENT = """
    INSERT INTO approval_events (candidate_id, idempotency_key, event, at)
    VALUES ($1, gen_random_uuid(), $2, clock_timestamp() - $3::interval)
"""
NEW_EVENT = """
    INSERT INTO candidate_events (candidate_id, type, at, actor_kind, data)
    VALUES ($1, $2, clock_timestamp() - $3::interval, 'service',
            jsonb_build_object('idempotency_key', gen_random_uuid()) || $4::jsonb)
"""
# What the release before shows: it reads its own table, which has a copy of every event.
SHOWN_BEFORE = """
    SELECT event, count(*) FROM (SELECT event, at FROM approval_events ORDER BY at DESC LIMIT $1) AS latest
    WHERE at >= $2 GROUP BY event
"""
NOW, LONG_AGO = timedelta(), timedelta(days=DAYS + 1)
OLD = list(ApprovalEvent)
NEW = {
    "approval_requested": 2,
    "approval_retried": 1,
    "approval_failed": 3,
    "approval_in_doubt": 1,
    "approval_linked": 1,
    "approval_released": 2,
    "approved": 4,
    "provider_orphaned": 1,
}


@pytest.fixture
async def connection(empty_database_url):
    """A database in which both releases have written, before and after the log was added."""
    await asyncio.to_thread(migrations.upgrade, empty_database_url, BEFORE_THE_LOG)
    connection = await asyncpg.connect(empty_database_url)
    await write_as_before(connection)
    await asyncio.to_thread(migrations.upgrade, empty_database_url)
    await write_as_before(connection)
    for number in range(4):
        candidate = await connection.fetchval(REGISTER, uuid4().hex)
        for name, count in NEW.items():
            if number < count:
                await write(connection, candidate, name)
    await write(connection, candidate, "approved", data='{"linked": true}')  # which is in the log beside `linked`
    await write(connection, candidate, "approved", ago=LONG_AGO)
    by_hand = await connection.fetchval(REGISTER, uuid4().hex)
    await connection.execute("UPDATE candidates SET status = 'approved', provider_id = 77 WHERE id = $1", by_hand)
    yield connection
    await connection.close()


async def write_as_before(connection: asyncpg.Connection) -> None:
    """Events of the release before: one of each, and one that is too old."""
    candidate = await connection.fetchval(REGISTER, uuid4().hex)
    for event in OLD:
        await connection.execute(OLD_EVENT, candidate, event, NOW)
    await connection.execute(OLD_EVENT, candidate, "failed", LONG_AGO)


async def write(connection: asyncpg.Connection, candidate: UUID, name: str, *, ago=NOW, data="{}") -> None:
    await connection.execute(NEW_EVENT, candidate, f"candidate.{name}", ago, data)


@pytest.fixture
async def statistics(empty_database_url):
    database = Database(DatabaseSettings(_env_file=None, database_url=empty_database_url).database_url, pool_size=1)
    yield StatisticsService(database)
    await database.close()


async def shown_before(connection: asyncpg.Connection, rows: int) -> dict[str, int]:
    since = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
    return dict(await connection.fetch(SHOWN_BEFORE, rows, since))


async def test_outcomes_of_approvals_are_those_that_the_release_before_shows(connection, statistics):
    overview = await statistics.overview()

    assert overview.approvals == await shown_before(connection, service.MAX_ROWS)
    assert overview.approvals[ApprovalEvent.APPROVED] == 2 + NEW["approved"]
    assert set(overview.approvals) == set(ApprovalEvent)


async def test_outcomes_are_of_the_latest_events_alone(connection, statistics, monkeypatch):
    monkeypatch.setattr(service, "MAX_ROWS", 5)

    overview = await statistics.overview()

    assert overview.approvals == await shown_before(connection, 5)
    assert sum(overview.approvals.values()) == 5


async def test_candidates_are_counted_by_status_day_and_product(connection, statistics):
    rejected = await connection.fetchval(REGISTER, uuid4().hex)
    await connection.execute("UPDATE candidates SET status = 'rejected' WHERE id = $1", rejected)

    overview = await statistics.overview()

    statuses = Counter(row["status"] for row in await connection.fetch("SELECT status FROM candidates"))
    assert overview.candidates == {status: statuses[status] for status in Status}
    assert sum(day.registered for day in overview.days) == statuses.total()
    assert [sum(getattr(day, name) for day in overview.days) for name in ("approved", "rejected")] == [1, 1]
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
