"""Runs Alembic's upgrade and downgrade from a program."""

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
RETRY_SECONDS = 120.0  # for which a step that finds a table locked is retried
LOCK_TIMEOUT = 600.0  # seconds to wait for another migrating process
LOCK_POLL = 0.25  # seconds
# How soon PostgreSQL detects that this process was killed; by default it first finishes the statement and keeps locks.
CONNECTION_CHECK = "1s"

# One migration at a time: every replica may run `migrate` at startup.
TRY_LOCK = text("SELECT pg_try_advisory_lock(:key)").bindparams(key=int.from_bytes(b"provregs", "big"))

# Alembic keeps its state in module globals: one command at a time in a process.
_one_command = threading.Lock()

_URL: TypeAdapter[str] = TypeAdapter(DatabaseUrl)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class MigrationError(Exception):
    """The schema was not changed as requested; the message is for the operator."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Upgrade the schema to `revision`. Completed steps stay if a later one fails.

    Raises:
        MigrationError: a step refused, the database does not respond, or the revision does not exist.
    """
    _command(lambda config: command.upgrade(config, revision), database_url)


def downgrade(database_url: str, revision: str) -> None:
    """Downgrade the schema to `revision` (`base` drops everything).

    Raises:
        MigrationError: as for `upgrade`.
    """
    _command(lambda config: command.downgrade(config, revision), database_url)


def current(database_url: str) -> str | None:
    """The current revision of the database; None before the first.

    Raises:
        MigrationError: the database does not respond.
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
    """The newest revision."""
    return ScriptDirectory.from_config(Config(find_config())).get_current_head()


def find_config() -> Path:
    """The path of alembic.ini: in the checkout, or in the working directory of a container.

    Raises:
        MigrationError: it is in neither.
    """
    places = (Path(__file__).resolve().parents[3], Path.cwd())
    for place in places:
        if (place / "alembic.ini").is_file() and (place / "alembic").is_dir():
            return place / "alembic.ini"
    searched = " or ".join(str(place) for place in dict.fromkeys(places))
    raise MigrationError(f"alembic.ini and alembic/ were not found in {searched}; run this in their folder.")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end, even if an event loop is running, which is then blocked."""
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
    """Call `work` with a connection while no other process migrates this database.

    Raises:
        CommandError: the database does not respond, has an encoding other than UTF8, or another process has
            been migrating it for too long.
    """
    async with _connection(database_url) as connection:
        if refusal := refusal_of_encoding(await connection.scalar(SHOW_ENCODING)):
            raise CommandError(f"Nothing changed: {refusal}.")
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
    # Poll instead of waiting inside PostgreSQL: CREATE INDEX CONCURRENTLY in the process that holds the lock waits
    # for every running statement, including ours, and both would wait forever.
    waited = 0.0
    while not await connection.scalar(TRY_LOCK):
        await connection.commit()
        if waited == 0:
            _log.info("waiting for another process that is migrating this database")
        if waited >= LOCK_TIMEOUT:
            raise CommandError(f"Another process has been migrating this database for {waited:.0f} s; try later.")
        await asyncio.sleep(LOCK_POLL)
        waited += LOCK_POLL
    await connection.commit()  # the lock belongs to the session; Alembic manages the transactions


def _command(work: Callable[[Config], None], database_url: str) -> None:
    config = Config(find_config(), attributes={DATABASE_URL: database_url})
    try:
        with _one_command:
            work(config)
    except CommandError as error:
        raise MigrationError(str(error)) from error
