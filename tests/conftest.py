"""One PostgreSQL for a whole test run, and databases on it."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from httpx._transports import default
from playwright.async_api import Browser

from provider_registration.auth.directory import UserDirectory
from provider_registration.db import migrations
from provider_registration.local.background_server import serve_in_background
from provider_registration.local.errors import LocalError
from provider_registration.local.lock import FolderLock
from provider_registration.local.postgres import PrivatePostgres
from provider_registration.local.sandbox import create_sandbox
from tests.chromium import PROGRAM, chromium
from tests.forked import ForkServer, running_fork_server
from tests.pgbouncer import PORT as PGBOUNCER_PORT
from tests.pgbouncer import PgBouncer
from tests.processor_time import ProcessorTime
from tests.service import user_directory

SERVER_URL = (
    "TEST_DATABASE_URL"  # set it to test against another server, 15 or later; its user must be able to create databases
)
OLDEST_SERVER = 150000
SERVER_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "scram_iterations": "1",  # asyncpg hashes so often in Python for every connection: 3 ms
}

FOLDER_PREFIX = "provider-registration-tests-"
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the names in it are random
ROOM = 2 * 2**30  # bytes; the databases of a run take less
A_RUN_STARTS_WITHIN = 60.0  # seconds

DELETE_CANDIDATES = (
    "DELETE FROM event_queue; DELETE FROM candidate_events; "
    "DELETE FROM approval_events; DELETE FROM approval_intents; DELETE FROM candidates"
)

pytest_plugins = ["tests.running_service"]  # fixtures for every folder

# A client reads all certificates of the machine, 40 ms of processor time, though the tests speak plain HTTP.
default.create_ssl_context = cache(default.create_ssl_context)

_folder = pytest.StashKey[Path]()
_postgres = pytest.StashKey[PrivatePostgres]()
_pgbouncer = pytest.StashKey[PgBouncer]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pgbouncer", action="store_true", help="put PgBouncer between the service and PostgreSQL")
    parser.addoption("--processor-time", action="store_true", help="show which tests cost the most processor time")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # thousands of collected tests stay: looking through them again and again takes a second
    if config.getoption("processor_time"):
        config.pluginmanager.register(ProcessorTime())
    if hasattr(config, "workerinput"):  # an xdist worker: it inherits the variables
        return
    _remove_what_killed_runs_left()
    folder = config.stash[_folder] = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=place_for_folders()))
    folder.chmod(0o755)  # for root, whose PostgreSQL runs as another user
    _find_or_start_server(config, folder)
    if config.getoption("pgbouncer"):
        pgbouncer = config.stash[_pgbouncer] = PgBouncer(folder / "pgbouncer", os.environ[SERVER_URL])
        os.environ[PGBOUNCER_PORT] = str(pgbouncer.port)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    if hypothesis := sys.modules.get("hypothesis"):  # a busy machine may stall in any example
        hypothesis.settings.register_profile("stalling", deadline=None)
        hypothesis.settings.load_profile("stalling")
    # A service that stops would make the collector look through them after all.
    gc.freeze = gc.unfreeze = lambda: None


def place_for_folders() -> Path:
    """Memory if it has room, unless TMPDIR is set: the 300 files of a database take 0.1 to 0.3 s more on a disk."""
    if "TMPDIR" not in os.environ and IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM:
        return IN_MEMORY
    return Path(tempfile.gettempdir())


def _remove_what_killed_runs_left() -> None:
    """Remove the data folders of servers that have stopped."""
    for folder in place_for_folders().glob(f"{FOLDER_PREFIX}*"):
        try:
            age = time.time() - folder.stat().st_mtime
        except FileNotFoundError:  # another run has just ended
            continue
        if age < A_RUN_STARTS_WITHIN:
            continue
        home = (folder / "postgres").resolve()
        lock = FolderLock(home)
        with suppress(LocalError, OSError):  # in use, of another user, or being created
            lock.acquire()
            shutil.rmtree(home)
            shutil.rmtree(folder)
            lock.release()


def _find_or_start_server(config: pytest.Config, folder: Path) -> None:
    if url := os.environ.get(SERVER_URL):
        version = asyncio.run(_server_version(url))
        if version < OLDEST_SERVER:
            raise pytest.UsageError(f"{SERVER_URL} is PostgreSQL {version // 10000}; 15 or later is required.")
        return
    postgres = config.stash[_postgres] = PrivatePostgres(folder / "postgres", options=SERVER_OPTIONS)
    url = os.environ[SERVER_URL] = postgres.start()
    asyncio.run(_hash_password_again(url))


def pytest_unconfigure(config: pytest.Config) -> None:
    if pgbouncer := config.stash.get(_pgbouncer, None):
        pgbouncer.stop()
        del os.environ[PGBOUNCER_PORT]
    if postgres := config.stash.get(_postgres, None):
        postgres.stop()
        del os.environ[SERVER_URL]
    if folder := config.stash.get(_folder, None):
        shutil.rmtree((folder / "postgres").resolve(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


async def _hash_password_again(url: str) -> None:
    """Let the user's password be hashed as the server's options say; initdb does not know them."""
    parts, connection = urlsplit(url), await asyncpg.connect(url)
    try:
        await connection.execute(f"ALTER USER {parts.username} PASSWORD '{parts.password}'")
    finally:
        await connection.close()


async def _server_version(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SHOW server_version_num"))
    finally:
        await connection.close()


async def create_database(server_url: str, name: str, template: str = "", options: str = "") -> str:
    """Create a database, empty or a copy of `template`, with more SQL options; return its URL."""
    source = f' TEMPLATE "{template}"' if template else ""
    connection = await asyncpg.connect(server_url)
    try:
        # Copying the files takes a third of the processor time of PostgreSQL's usual way, through its log.
        await connection.execute(f'CREATE DATABASE "{name}"{source} STRATEGY FILE_COPY {options}')
    finally:
        await connection.close()
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


async def drop_database(server_url: str, name: str) -> None:
    """Drop a database, even if it has connections."""
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def server_url() -> str:
    """The maintenance database of a server on which tests create databases."""
    return os.environ[SERVER_URL]


@pytest.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """A new database without tables."""
    name = f"test_{uuid4().hex}"
    yield await create_database(server_url, name)
    await drop_database(server_url, name)


@pytest.fixture(scope="session")
async def template_at(server_url: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """The name of a database at a revision, without connections: a copy takes a tenth of the time of a migration."""
    names: dict[str, str] = {}

    async def template_at(revision: str) -> str:
        if revision not in names:
            name = f"template_{uuid4().hex}"
            await asyncio.to_thread(migrations.upgrade, await create_database(server_url, name), revision)
            names[revision] = name
        return names[revision]

    yield template_at
    for name in names.values():
        await drop_database(server_url, name)


@pytest.fixture(scope="session")
async def template(template_at: Callable[[str], Awaitable[str]]) -> str:
    """The name of a database at head, without connections."""
    return await template_at("head")


@pytest.fixture
async def database_at(
    server_url: str, template_at: Callable[[str], Awaitable[str]]
) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Makes a new database at a revision, for one test."""
    names = []

    async def database_at(revision: str) -> str:
        names.append(f"test_{uuid4().hex}")
        return await create_database(server_url, names[-1], await template_at(revision))

    yield database_at
    for name in names:
        await drop_database(server_url, name)


@pytest.fixture(scope="session")
async def migrated_database_url(server_url: str, template: str) -> AsyncIterator[str]:
    """A database at head for all tests of this process; tests that write to it clean up before or after."""
    name = f"test_{uuid4().hex}"
    yield await create_database(server_url, name, template)
    await drop_database(server_url, name)


@pytest.fixture
async def own_database_url(database_at: Callable[[str], Awaitable[str]]) -> str:
    """A new database at head, for one test."""
    return await database_at("head")


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of one test to the shared database."""
    connection = await asyncpg.connect(migrated_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def no_candidates(database: asyncpg.Connection) -> AsyncIterator[None]:
    """Empties the shared database before and after. TRUNCATE would deadlock with reads of a running service."""
    await _delete_candidates(database)
    yield
    await _delete_candidates(database)


async def _delete_candidates(database: asyncpg.Connection) -> None:
    for is_last in (False, False, True):
        try:
            await database.execute(DELETE_CANDIDATES)
        except asyncpg.RestrictViolationError:  # a running service recorded an approval meanwhile
            if is_last:
                raise
        else:
            return


@pytest.fixture(scope="session")
async def users(migrated_database_url: str) -> AsyncIterator[UserDirectory]:
    """The users of the shared database."""
    async with user_directory(migrated_database_url) as users:
        yield users


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Starts processes of the program without loading it each time."""
    with running_fork_server(tmp_path_factory.mktemp("forked")) as server:
        yield server


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of this process."""
    if PROGRAM is None:
        pytest.skip("there is no Chromium (Debian: apt install chromium-headless-shell, Ubuntu: chromium)")
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
async def shared_billing_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The only billing sandbox of the shared database: a second one would use the same provider IDs."""
    async with serve_in_background(create_sandbox(tmp_path_factory.mktemp("billing") / "providers.sqlite3")) as url:
        yield url
