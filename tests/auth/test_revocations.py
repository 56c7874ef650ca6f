"""Sessions that end while the database's clock is changed: every process still sees it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from unittest.mock import AsyncMock

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from provider_registration.auth import queries, revocations
from provider_registration.auth.revocations import RevocationWatch
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.settings import DatabaseSettings

# PostgreSQL finds these two before its own.
CLOCK = """
    CREATE SCHEMA clocks;
    CREATE TABLE clocks.clock AS SELECT interval '0' AS ahead;
    CREATE FUNCTION clocks.now() RETURNS timestamptz STABLE LANGUAGE sql AS
        'SELECT pg_catalog.now() + ahead FROM clocks.clock';
    CREATE FUNCTION clocks.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
        'SELECT pg_catalog.clock_timestamp() + ahead FROM clocks.clock';
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = clocks, public, pg_catalog', current_database());
    END $$;
"""
BEGIN_SESSION = """
    WITH added AS (
        INSERT INTO users (email, password_hash, role) VALUES ('lena@example.com', '', 'admin') RETURNING id
    )
    INSERT INTO sessions (user_id, expires_at) SELECT id, now() + interval '1 day' FROM added RETURNING id
"""


BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@pytest.fixture
async def clock(own_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database whose clock can be set."""
    connection = await asyncpg.connect(own_database_url)
    await connection.execute(CLOCK)
    yield connection
    await connection.close()


@pytest.fixture
async def database(clock: asyncpg.Connection, own_database_url: str) -> AsyncIterator[Database]:
    """The same database, as the service uses it."""
    del clock
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    yield database
    await database.close()


@pytest.mark.asvs("V7.4.1")
@pytest.mark.parametrize("minutes", [10, -10])
@pytest.mark.parametrize("ends_before", [True, False])
async def test_a_session_that_ends_as_the_clock_is_set_has_ended_everywhere(
    clock: asyncpg.Connection, database: Database, minutes: int, ends_before: bool
) -> None:
    session_id = await clock.fetchval(BEGIN_SESSION)
    elsewhere = RevocationWatch(database)
    await elsewhere.refresh()

    async def end() -> None:
        async with database.statement() as session:
            asked = {"session_id": session_id, "actor_kind": "service", "actor_id": None, "reason": "expired"}
            await session.execute(queries.REVOKE_SESSION, asked)

    if ends_before:
        await end()
    await clock.execute("UPDATE clocks.clock SET ahead = make_interval(mins => $1)", minutes)
    if not ends_before:
        await end()
    await elsewhere.refresh()

    assert await elsewhere.is_revoked(session_id)


@pytest.mark.parametrize(("minutes", "is_known"), [(40, True), (50, False)])
async def test_a_process_that_starts_knows_of_ends_for_as_long_as_any_token_may_live(
    clock: asyncpg.Connection, database: Database, minutes: int, is_known: bool
) -> None:
    session_id = await clock.fetchval(BEGIN_SESSION)
    await clock.execute("UPDATE sessions SET revoked_at = now() - make_interval(mins => $1)", minutes)

    started = RevocationWatch(database)
    await started.refresh()

    assert await started.is_revoked(session_id) is is_known  # a token may come from a process whose clock is ahead


def wake_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the machine was suspended: on Linux, the monotonic clock does not advance meanwhile."""
    monotonic, boot = time.monotonic(), time.clock_gettime(BOOT_CLOCK)
    clocks = SimpleNamespace(
        monotonic=lambda: monotonic + (0 if sys.platform == "linux" else seconds),
        clock_gettime=lambda _: boot + seconds,
        CLOCK_BOOTTIME=BOOT_CLOCK,
    )
    monkeypatch.setattr(revocations, "time", clocks)


async def test_stale_revocations_are_read_before_responding(
    clock: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await clock.fetchval(BEGIN_SESSION)
    watch = RevocationWatch(database)
    await watch.refresh()
    await clock.execute("UPDATE sessions SET revoked_at = now()")
    assert not await watch.is_revoked(session_id)  # no poll happens so soon

    wake_after(3, monkeypatch)

    assert await watch.is_revoked(session_id)


async def test_no_token_is_accepted_while_revocations_cannot_be_read(
    clock: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await clock.fetchval(BEGIN_SESSION)
    watch = RevocationWatch(database)
    await watch.refresh()
    await clock.execute("DROP TABLE sessions CASCADE")  # polls now fail

    wake_after(3, monkeypatch)

    with pytest.raises(DBAPIError):
        await watch.is_revoked(session_id)


@pytest.mark.parametrize(("trouble", "shown"), [(None, 1), ("no tables", 0), ("no answer", 0)])
async def test_the_metric_shows_whether_the_database_responds(
    clock: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch, trouble: str | None, shown: int
) -> None:
    seen: list[int] = []
    watch = RevocationWatch(database)
    if trouble == "no tables":
        await clock.execute("DROP TABLE sessions CASCADE")
    elif trouble == "no answer":
        monkeypatch.setattr(watch, "refresh", AsyncMock(side_effect=DatabaseUnavailable))

    watching = asyncio.create_task(watch.run())

    def record(value: int) -> None:
        if asyncio.current_task() is watching:  # services of other tests poll too
            seen.append(value)

    monkeypatch.setattr(revocations, "DATABASE_UP", SimpleNamespace(set=record))
    async with asyncio.timeout(10):
        while not seen:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert set(seen) == {shown}


async def test_an_end_that_is_committed_after_a_later_one_was_seen_is_not_missed(
    clock: asyncpg.Connection, database: Database, own_database_url: str
) -> None:
    session_id = await clock.fetchval(BEGIN_SESSION)
    watch = RevocationWatch(database)
    slow = await asyncpg.connect(own_database_url)
    async with slow.transaction():
        await slow.execute("UPDATE sessions SET revoked_at = clock_timestamp()")
        await watch.refresh()  # does not see it, and polls from here on
        assert not await watch.is_revoked(session_id)
    await slow.close()

    await watch.refresh()

    assert await watch.is_revoked(session_id)
