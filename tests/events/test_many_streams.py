"""Many streams on one process: all get every event, and other requests come between them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.db.database import Database
from provider_registration.events.dispatcher import Dispatcher
from provider_registration.events.feed import Feed
from provider_registration.events.models import EventType
from provider_registration.events.stream import WOKEN_AT_ONCE, EventStreams
from tests.events.candidates import add_candidate

STREAMS = 10 * WOKEN_AT_ONCE


@pytest.fixture
async def database(own_database_url):
    database = Database(own_database_url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=2)
    yield database
    await database.close()


async def test_many_streams_get_an_event_in_turns_with_other_requests(database, own_database_url):
    streams, dispatcher = EventStreams(Feed(database)), Dispatcher(database, [])
    connection = await asyncpg.connect(own_database_url)
    turns: list[int] = []  # of each stream that got the event
    turn = 0

    async def take_turns():
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def follow():
        with streams.admit(uuid4()):
            async for _, events in streams.follow(0, list(EventType)):
                if events:
                    turns.append(turn)
                    return

    background = [asyncio.create_task(streams.run()), asyncio.create_task(take_turns())]
    following = [asyncio.create_task(follow()) for _ in range(STREAMS)]
    gone = following.pop()
    await asyncio.sleep(1.2)  # all wait for the next event
    gone.cancel()
    await add_candidate(connection)
    await dispatcher.dispatch()
    async with asyncio.timeout(30):
        await asyncio.gather(*following)

    assert len(turns) == STREAMS - 1
    assert max(turns.count(each) for each in turns) <= WOKEN_AT_ONCE
    for task in (*background, gone):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await connection.close()
