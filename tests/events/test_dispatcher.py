"""Events get positions in an order that readers can rely on, whoever writes and whoever is killed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from provider_registration import failpoints
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.events.dispatcher import BATCH, Dispatcher
from tests.events.candidates import add_candidate, add_event

SUBSCRIPTION = text("""
    INSERT INTO deliveries (kind, target, event_id)
    SELECT 'webhook', 'somebody', event_id FROM event_positions WHERE position BETWEEN :first AND :last
""")


@pytest.fixture
async def connections(own_database_url):
    """Opens connections to the test's own database."""
    async with AsyncExitStack() as opened:

        async def connect():
            connection = await asyncpg.connect(own_database_url)
            opened.push_async_callback(connection.close)
            return connection

        yield connect


@pytest.fixture
async def open_dispatcher(own_database_url):
    """Opens dispatchers with connections of their own."""

    @asynccontextmanager
    async def open_dispatcher(*subscriptions, time_limit=None):
        url = own_database_url.replace("postgresql://", "postgresql+asyncpg://")
        database = Database(url, pool_size=2, time_limit=time_limit)
        yield Dispatcher(database, subscriptions)
        await database.close()

    return open_dispatcher


async def positions(connection):
    return [tuple(row) for row in await connection.fetch("SELECT * FROM event_positions ORDER BY position")]


async def test_events_are_numbered_in_the_order_of_their_ids_and_by_candidate(connections, open_dispatcher):
    connection = await connections()
    one, other = await add_candidate(connection), await add_candidate(connection)
    await add_event(connection, one)
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM candidate_events ORDER BY id")]

    async with open_dispatcher() as dispatcher:
        has_more = await dispatcher.dispatch()

    assert not has_more
    assert await positions(connection) == [(1, ids[0], one, 1), (2, ids[1], other, 1), (3, ids[2], one, 2)]
    assert await connection.fetchval("SELECT count(*) FROM event_queue") == 0


async def test_an_event_that_is_committed_late_comes_after_those_that_were_read(connections, open_dispatcher):
    connection, late = await connections(), await connections()
    candidate = await add_candidate(connection)
    transaction = late.transaction()
    await transaction.start()
    late_candidate = await add_candidate(late)  # its event has the lower ID
    await add_event(connection, candidate)
    async with open_dispatcher() as dispatcher:
        await dispatcher.dispatch()
        before = await positions(connection)
        await transaction.commit()
        await dispatcher.dispatch()

    after = await positions(connection)
    assert after[: len(before)] == before
    assert [row[2] for row in after] == [candidate, candidate, late_candidate]
    assert after[-1][1] < after[-2][1]


async def test_while_one_dispatcher_works_another_does_nothing(connections, open_dispatcher):
    connection, holder = await connections(), await connections()
    await add_candidate(connection)
    async with open_dispatcher() as dispatcher, holder.transaction():
        await holder.execute("SELECT FROM event_dispatcher FOR UPDATE")
        assert await dispatcher.dispatch() is False
        assert await positions(connection) == []


async def test_several_dispatchers_number_every_event_once(connections, open_dispatcher):
    connection = await connections()
    candidates = [await add_candidate(connection) for _ in range(5)]

    async def write(number):
        own = await connections()
        for _ in range(40):
            await add_event(own, candidates[number % 5])

    async with AsyncExitStack() as stack:
        dispatchers = [await stack.enter_async_context(open_dispatcher(SUBSCRIPTION)) for _ in range(3)]
        done = asyncio.Event()

        async def dispatch(dispatcher):
            while not done.is_set() or await dispatcher.dispatch():
                await dispatcher.dispatch()

        working = [asyncio.create_task(dispatch(dispatcher)) for dispatcher in dispatchers]
        await asyncio.gather(*(write(number) for number in range(5)))
        done.set()
        await asyncio.gather(*working)
        await dispatchers[0].dispatch()

    rows = await positions(connection)
    assert [row[0] for row in rows] == list(range(1, 206))
    assert len({row[1] for row in rows}) == 205
    for candidate in candidates:
        assert [row[3] for row in rows if row[2] == candidate] == list(range(1, 42))
        ids = [row[1] for row in rows if row[2] == candidate]
        assert ids == sorted(ids)
    assert await connection.fetchval("SELECT count(*) FROM deliveries") == 205


async def test_a_dispatcher_that_dies_before_its_commit_leaves_everything_to_the_next(
    connections, open_dispatcher, monkeypatch
):
    connection = await connections()
    await add_candidate(connection)

    class Killed(BaseException):
        pass

    async def die(name):
        if name == "dispatch.before-commit":
            raise Killed

    async with open_dispatcher(SUBSCRIPTION) as dispatcher:
        monkeypatch.setattr(failpoints, "hook", die)
        with pytest.raises(Killed):
            await dispatcher.dispatch()
        assert await positions(connection) == []
        monkeypatch.setattr(failpoints, "hook", None)
        await dispatcher.dispatch()

    assert len(await positions(connection)) == 1
    assert await connection.fetchval("SELECT count(*) FROM deliveries") == 1


async def test_a_long_queue_is_numbered_in_batches(connections, open_dispatcher):
    connection = await connections()
    candidate = await add_candidate(connection)
    await connection.execute(
        "INSERT INTO candidate_events (candidate_id, type, actor_kind) "
        "SELECT $1, 'candidate.approval_failed', 'service' FROM generate_series(1, $2)",
        candidate,
        BATCH,
    )
    async with open_dispatcher() as dispatcher:
        assert [await dispatcher.dispatch() for _ in range(3)] == [True, False, False]

    assert await connection.fetchval("SELECT last_position FROM event_dispatcher") == BATCH + 1


async def test_events_whose_deliveries_take_longer_than_a_statement_may_are_numbered_in_smaller_batches(
    connections, open_dispatcher
):
    connection = await connections()
    candidate = await add_candidate(connection)
    await connection.execute(
        "INSERT INTO candidate_events (candidate_id, type, actor_kind) "
        "SELECT $1, 'candidate.approval_failed', 'service' FROM generate_series(1, 99)",
        candidate,
    )
    slow = text("SELECT pg_sleep(0.04 * (CAST(:last AS bigint) - CAST(:first AS bigint) + 1))")  # 4 s for all
    async with open_dispatcher(slow, time_limit=2) as dispatcher, asyncio.timeout(60):
        has_more = True
        while has_more:
            try:
                has_more = await dispatcher.dispatch()
            except DatabaseUnavailable:
                has_more = True

    assert [row[3] for row in await positions(connection)] == list(range(1, 101))
    assert await connection.fetchval("SELECT count(*) FROM event_queue") == 0


async def test_a_queued_event_that_was_deleted_holds_nothing_up(connections, open_dispatcher):
    connection = await connections()
    await add_candidate(connection)
    await connection.execute("DELETE FROM candidate_events")
    other = await add_candidate(connection)
    async with open_dispatcher() as dispatcher:
        await dispatcher.dispatch()

    assert [row[2:] for row in await positions(connection)] == [(other, 1)]


async def test_before_older_events_are_numbered_nothing_is(connections, open_dispatcher):
    connection = await connections()
    await connection.execute("DELETE FROM event_dispatcher")
    await add_candidate(connection)
    async with open_dispatcher() as dispatcher:
        assert await dispatcher.dispatch() is False

    assert await connection.fetchval("SELECT count(*) FROM event_queue") == 1


async def test_an_event_of_a_candidate_has_its_number_soon(admin, register):
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"
    await admin.post(f"{path}/reject", json={"reason": str(uuid4())})
    async with asyncio.timeout(20):
        while True:
            events = (await admin.get(f"{path}/events")).json()["events"]
            if all(event["sequence"] for event in events):
                break
            await asyncio.sleep(0.05)

    assert [event["sequence"] for event in events] == [2, 1]
