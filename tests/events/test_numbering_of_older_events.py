"""The migration 021 numbers the events of before, and what happens while it, or its downgrade, runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from provider_registration.db import migrations
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.db.migrations import MigrationError
from provider_registration.events.dispatcher import Dispatcher
from tests.events.candidates import add_candidate, add_event

LOG, FEED = "020_candidate_events", "021_event_feed"
BATCH = 2000  # of the migration
CANDIDATES, MORE_EVENTS = 40, 60  # of each: more than one batch
# Times that are not in the order of the IDs; some are equal.
ADD_OLDER_EVENTS = """
    INSERT INTO candidate_events (candidate_id, type, actor_kind, at)
    SELECT candidates.id, 'candidate.status_link_replaced', 'service',
           now() - make_interval(secs => (number * 7919) % 997)
    FROM candidates CROSS JOIN generate_series(1, $1) AS number
"""
EXPECTED = """
    SELECT row_number() OVER (ORDER BY at, id), id, candidate_id,
           row_number() OVER (PARTITION BY candidate_id ORDER BY at, id)
    FROM candidate_events WHERE id <= $1 ORDER BY at, id
"""
POSITIONS = "SELECT position, event_id, candidate_id, sequence FROM event_positions ORDER BY position"
# Each event once, without gaps, also within each candidate.
PROBLEMS = """
    SELECT event_id FROM (
        SELECT event_id, position, sequence, row_number() OVER (ORDER BY position) AS expected,
               row_number() OVER (PARTITION BY candidate_id ORDER BY position) AS expected_sequence
        FROM event_positions
    ) AS numbered
    WHERE position <> expected OR sequence <> expected_sequence
    UNION ALL
    SELECT id FROM candidate_events WHERE id NOT IN (SELECT event_id FROM event_positions)
    UNION ALL
    SELECT last_position FROM event_dispatcher WHERE last_position <> (SELECT count(*) FROM event_positions)
"""
# The state of the migration before it numbers events.
BEFORE_NUMBERING = """
    DELETE FROM event_dispatcher;
    DELETE FROM event_positions;
    UPDATE alembic_version SET version_num = '020_candidate_events';
"""
INTERRUPT = f"""
    CREATE FUNCTION interrupt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'interrupted'; END $$;
    CREATE TRIGGER interrupt BEFORE INSERT ON event_positions
    FOR EACH ROW WHEN (NEW.position > {BATCH}) EXECUTE FUNCTION interrupt();
"""
# The session of an index build that waits.
BUILDING = """
    SELECT pid, query_start FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONCURRENTLY%'
"""


@pytest.fixture
async def older_database_url(database_at):
    return await database_at(LOG)


@pytest.fixture
async def connections(older_database_url):
    """Two connections to a database before the migration, with older events."""
    opened = [await asyncpg.connect(older_database_url) for _ in range(2)]
    for _ in range(CANDIDATES):
        await add_candidate(opened[0])
    await opened[0].execute(ADD_OLDER_EVENTS, MORE_EVENTS)
    yield opened
    for connection in opened:
        await connection.close()


@pytest.fixture
async def dispatcher(older_database_url):
    database = Database(older_database_url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=1)
    yield Dispatcher(database, [])
    await database.close()


async def rows(connection, query, *arguments):
    return [tuple(row) for row in await connection.fetch(query, *arguments)]


async def test_older_events_are_numbered_in_the_order_of_their_times(connections, older_database_url):
    connection, _ = connections
    newest = await connection.fetchval("SELECT max(id) FROM candidate_events")
    expected = await rows(connection, EXPECTED, newest)
    assert len(expected) > BATCH
    assert [row[1] for row in expected] != sorted(row[1] for row in expected)

    await asyncio.to_thread(migrations.upgrade, older_database_url, FEED)

    assert await rows(connection, POSITIONS) == expected
    assert await connection.fetchval("SELECT last_position FROM event_dispatcher") == len(expected)


async def test_interrupted_between_two_batches_it_is_repeated_and_newer_events_follow(
    connections, older_database_url, dispatcher
):
    connection, _ = connections
    newest = await connection.fetchval("SELECT max(id) FROM candidate_events")
    expected = await rows(connection, EXPECTED, newest)
    candidate = expected[BATCH + 10][2]
    await asyncio.to_thread(migrations.upgrade, older_database_url, FEED)
    await connection.execute(BEFORE_NUMBERING)
    await connection.execute(INTERRUPT)

    with pytest.raises(MigrationError, match="interrupted"):
        await asyncio.to_thread(migrations.upgrade, older_database_url, FEED)

    assert await connection.fetchval("SELECT count(*) FROM event_positions") == BATCH
    await add_event(connection, candidate)
    assert await dispatcher.dispatch() is False
    await connection.execute("DROP TRIGGER interrupt ON event_positions")
    await asyncio.to_thread(migrations.upgrade, older_database_url)
    await dispatcher.dispatch()
    positions = await rows(connection, POSITIONS)
    assert positions[:-1] == expected
    assert positions[-1][2:] == (candidate, 1 + max(row[3] for row in expected if row[2] == candidate))


async def test_while_a_transaction_is_left_open_it_waits_without_blocking_anybody(connections, older_database_url):
    connection, holder = connections
    candidate = await connection.fetchval("SELECT id FROM candidates LIMIT 1")
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM candidates LIMIT 1")
    await add_event(holder, candidate, "erased")
    upgrade = asyncio.create_task(asyncio.to_thread(migrations.upgrade, older_database_url, FEED))
    async with asyncio.timeout(30):
        while not (pids := await rows(connection, BUILDING)):
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.5)  # three times the time limit of other locks

    assert await rows(connection, BUILDING) == pids
    async with asyncio.timeout(5):
        await add_candidate(connection)
    await transaction.commit()
    await upgrade
    assert await connection.fetchval("SELECT count(*) FROM event_positions") > BATCH


async def test_downgraded_and_upgraded_again_while_events_are_written_every_event_has_one_number(
    connections, older_database_url, dispatcher
):
    connection, _ = connections
    await asyncio.to_thread(migrations.upgrade, older_database_url, FEED)
    candidates = [row["id"] for row in await connection.fetch("SELECT id FROM candidates ORDER BY id LIMIT 3")]
    is_done = asyncio.Event()

    async def write(candidate):
        own = await asyncpg.connect(older_database_url)
        written = 0
        while not is_done.is_set():
            await add_candidate(own)  # as the release before does: a trigger writes the event
            await add_event(own, candidate)
            written += 2
        await own.close()
        return written

    async def dispatch():
        while not is_done.is_set():
            with suppress(DBAPIError, DatabaseUnavailable):  # the tables are gone for a while
                await dispatcher.dispatch()
            await asyncio.sleep(0.01)

    working = asyncio.gather(dispatch(), *(write(candidate) for candidate in candidates))
    try:
        for move, revision in ((migrations.downgrade, LOG), (migrations.upgrade, FEED)):
            await asyncio.to_thread(move, older_database_url, revision)
            await asyncio.sleep(0.2)
    finally:
        is_done.set()
        _, *written = await working
    await asyncio.to_thread(migrations.upgrade, older_database_url)  # the dispatcher is of this release
    while await dispatcher.dispatch():
        pass

    assert all(written)
    assert await connection.fetchval("SELECT count(*) FROM event_queue") == 0
    assert await rows(connection, PROBLEMS) == []
