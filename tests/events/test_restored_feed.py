"""A dump of the database, restored into a fresh cluster: readers of the feed go on."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from provider_registration.db.database import Database
from provider_registration.events.dispatcher import Dispatcher
from provider_registration.events.errors import CursorUnknown
from provider_registration.events.feed import Feed
from provider_registration.local.accounts import installed_programs
from provider_registration.local.postgres import ENVIRONMENT, PrivatePostgres
from tests.conftest import place_for_folders
from tests.events.candidates import add_candidate, add_event


@pytest.fixture
def fresh_url():
    """A cluster of its own, whose transactions are numbered from the start."""
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-restore-", dir=place_for_folders()))
    folder.chmod(0o755)  # for root, whose PostgreSQL runs as another account
    server = PrivatePostgres(folder / "postgres")
    yield server.start()
    server.stop()
    shutil.rmtree(folder)


@asynccontextmanager
async def opened(url):
    """A connection, a dispatcher and the feed."""
    connection = await asyncpg.connect(url)
    database = Database(url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=1)
    yield connection, Dispatcher(database, []), Feed(database)
    await database.close()
    await connection.close()


async def program(name, *arguments, given=b""):
    process = await asyncio.create_subprocess_exec(
        installed_programs() / name,
        *arguments,
        env=ENVIRONMENT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(given)
    assert (process.returncode, errors.decode()) == (0, "")
    return output


async def test_in_a_restored_database_cursors_and_sequences_go_on(own_database_url, fresh_url):
    async with opened(own_database_url) as (connection, dispatcher, feed):
        candidate = await add_candidate(connection)
        await add_event(connection, candidate)
        await dispatcher.dispatch()
        seen = await feed.page(0, limit=1)
        queued = await add_event(connection, candidate)  # not numbered in the dump
        dump = await program("pg_dump", own_database_url)
        await add_event(connection, candidate)
        await dispatcher.dispatch()
        lost = await feed.page(0, limit=100)  # a reader who saw what the dump lacks

    await program("psql", "-q", "-X", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", fresh_url, given=dump)
    async with opened(fresh_url) as (connection, dispatcher, feed):
        with pytest.raises(CursorUnknown):
            await feed.page(lost.next, limit=100)
        await dispatcher.dispatch()
        newer = await add_event(connection, candidate)
        other = await add_candidate(connection)
        await dispatcher.dispatch()

        page = await feed.page(seen.next, limit=100)

    assert [event.sequence for event in seen.events] == [1]
    assert [(event.position, event.candidate_id, event.sequence) for event in page.events] == [
        (2, candidate, 2),
        (3, candidate, 3),
        (4, candidate, 4),
        (5, other, 1),
    ]
    assert [event.id for event in page.events][1:3] == [queued, newer]
