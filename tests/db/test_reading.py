"""Where reads go when the replica is unavailable, or is no longer a replica."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import event, text

from provider_registration.db import reading
from provider_registration.db.database import Database
from provider_registration.db.reading import Reader
from provider_registration.settings import DatabaseSettings

WHICH_DATABASE = text("SELECT current_database()")


def open_database(url, keeps_connections=True):
    url = DatabaseSettings(_env_file=None, database_url=url).database_url
    return Database(url, pool_size=1, time_limit=5, prepared_statements=keeps_connections)


async def which_database(session):
    return await session.scalar(WHICH_DATABASE)


async def test_a_replica_that_was_promoted_is_read(server_url, empty_database_url):
    """A promoted replica replays nothing; it is recognised because it no longer matches the primary."""
    primary, promoted = open_database(server_url), open_database(empty_database_url)
    reader = Reader(primary, promoted)
    reader.note_decision()

    assert await reader.read(which_database) == empty_database_url.rpartition("/")[2]

    await primary.close()
    await promoted.close()


@pytest.mark.parametrize(("keeps_connections", "times"), [(True, 1), (False, 3)])
async def test_the_replay_position_is_checked_on_each_server_of_a_pooler(
    server_url, empty_database_url, keeps_connections, times
):
    primary, promoted = open_database(server_url), open_database(empty_database_url, keeps_connections)
    reader, asked = Reader(primary, promoted), []

    @event.listens_for(promoted.engine, "before_cursor_execute")
    def note(connection, cursor, statement, *_):
        asked.append("pg_last_wal_replay_lsn" in statement)

    reader.note_decision()
    for _ in range(3):
        await reader.read(which_database)

    assert sum(asked) == times
    await primary.close()
    await promoted.close()


@pytest.fixture
async def silent():
    """URL of a replica that closes every connection, and the number of connections."""
    connections = []

    async def close(reader, writer):
        del reader
        connections.append(writer)
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    yield f"postgresql://nobody@127.0.0.1:{server.sockets[0].getsockname()[1]}/none", connections
    server.close()


async def test_an_unresponsive_replica_is_skipped_for_a_while(silent, server_url, monkeypatch):
    url, connections = silent
    primary, away = open_database(server_url), open_database(url)
    reader = Reader(primary, away)

    await reader.read(which_database)
    tried = len(connections)
    for _ in range(3):
        await reader.read(which_database)

    assert tried
    assert len(connections) == tried

    later = time.monotonic() + 20
    monkeypatch.setattr(reading, "monotonic", lambda: later)
    await reader.read(which_database)
    assert len(connections) > tried

    await primary.close()
    await away.close()
