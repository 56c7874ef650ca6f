"""Bring a database's schema to a revision, from a program: what `alembic upgrade` does, without its command line."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from pydantic import TypeAdapter
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from provider_registration.db.revisions import SHOW_ENCODING, refusal_of_encoding
from provider_registration.settings import DatabaseUrl

DATABASE_URL = "database_url"  # key in alembic's Config.attributes, read by alembic/env.py
CONNECT_TIMEOUT = 10.0  # seconds
PATIENCE = 120.0  # seconds in which a step that finds a table locked is tried again
LOCK_TIMEOUT = 600.0  # seconds to wait for another migrating process
LOCK_POLL = 0.25  # seconds
# How soon PostgreSQL notices that this process was killed; by itself it first ends the statement, and keeps our lock.
CONNECTION_CHECK = "1s"

# One migrating process a database: each replica may run `migrate` as it starts.
TRY_LOCK = text("SELECT pg_try_advisory_lock(:key)").bindparams(key=int.from_bytes(b"provregs", "big"))

# alembic keeps the command under way in module globals: one at a time in a process.
_one_command = threading.Lock()

_URL: TypeAdapter[str] = TypeAdapter(DatabaseUrl)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class MigrationError(Exception):
    """The schema was not changed to what was asked; the message is a sentence for whoever asked."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the schema up to `revision`. Steps already done stay done when a later one fails.

    Raises:
        MigrationError: a step refused, the database does not answer, or there is no such revision.
    """
    _command(lambda config: command.upgrade(config, revision), database_url)


def downgrade(database_url: str, revision: str) -> None:
    """Take the schema back to `revision` (`base` drops everything).

    Raises:
        MigrationError: as for `upgrade`.
    """
    _command(lambda config: command.downgrade(config, revision), database_url)


def current(database_url: str) -> str | None:
    """The revision the database is at; None before the first.

    Raises:
        MigrationError: the database does not answer.
    """

    def read(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async def read_unlocked() -> str | None:
        async with _connection(database_url) as connection:
            return await connection.run_sync(read)

    try:
        return run(read_unlocked())
    except CommandError as error:
        raise MigrationError(str(error)) from error


def head() -> str | None:
    """The newest revision there is."""
    return ScriptDirectory.from_config(Config(find_config())).get_current_head()


def find_config() -> Path:
    """Where alembic.ini lies: in the checkout, or in the working directory of a container.

    Raises:
        MigrationError: in neither.
    """
    places = (Path(__file__).resolve().parents[3], Path.cwd())
    for place in places:
        if (place / "alembic.ini").is_file() and (place / "alembic").is_dir():
            return place / "alembic.ini"
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise MigrationError(f"alembic.ini and alembic/ are neither in {looked}; run this where they lie.")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end, also where an event loop is running; that one stands still meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        in_loop = False
    else:
        in_loop = True
    if not in_loop:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


async def on_locked_connection(database_url: str, work: Callable[[Connection], None]) -> None:
    """Call `work` with a connection, while no other process migrates this database.

    Raises:
        CommandError: the database does not answer, has another encoding than UTF8, or another process migrates it for
            too long.
    """
    async with _connection(database_url) as connection:
        if refusal := refusal_of_encoding(await connection.scalar(SHOW_ENCODING)):
            raise CommandError(f"Nothing was changed: {refusal}.")
        await _lock(connection)  # until the connection closes
        await connection.run_sync(work)


@asynccontextmanager
async def _connection(database_url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(
        _URL.validate_python(database_url),
        poolclass=NullPool,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            "server_settings": {
                "application_name": "provider-registration-migrate",
                "timezone": "UTC",
                "default_transaction_isolation": "read committed",
                "client_connection_check_interval": CONNECTION_CHECK,
            },
        },
    )
    try:
        connection = await engine.connect()
    except (OSError, TimeoutError, DBAPIError) as error:
        await engine.dispose()
        cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
        raise CommandError(f"The database cannot be reached: {str(cause) or type(cause).__name__}") from error
    try:
        yield connection
    finally:
        await connection.close()
        await engine.dispose()


async def _lock(connection: AsyncConnection) -> None:
    # Ask again and again instead of waiting inside PostgreSQL: CREATE INDEX CONCURRENTLY in the process that holds
    # the lock waits for every statement under way, ours included, and both would wait for ever.
    waited = 0.0
    while not await connection.scalar(TRY_LOCK):
        await connection.commit()
        if waited == 0:
            _log.info("waiting for another process that migrates this database")
        if waited >= LOCK_TIMEOUT:
            raise CommandError(f"Another process has been migrating this database for {waited:.0f} s; try later.")
        await asyncio.sleep(LOCK_POLL)
        waited += LOCK_POLL
    await connection.commit()  # the lock is the session's; a migration's transactions are alembic's


def _command(work: Callable[[Config], None], database_url: str) -> None:
    config = Config(find_config(), attributes={DATABASE_URL: database_url})
    try:
        with _one_command:
            work(config)
    except CommandError as error:
        raise MigrationError(str(error)) from error
