"""Fixtures to run alembic and to inspect the schema afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.db import migrations
from provider_registration.db.revisions import REVISIONS
from tests.conftest import create_database, drop_database
from tests.forked import ForkServer

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Finished:
    """A finished program."""

    status: int
    output: str
    errors: str


Program = Callable[..., Awaitable[Finished]]
Upgraded = Callable[[str], Awaitable[str]]


@pytest.fixture
def alembic(fork_server: ForkServer) -> Program:
    """Run alembic in the repository's root: `await alembic("upgrade", "head", DATABASE_URL=url)`."""

    async def alembic(*arguments: str, cwd: Path = ROOT, **environment: str) -> Finished:
        kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        process = fork_server.start([*arguments], kept | environment, cwd, program="alembic")
        output, errors = await asyncio.to_thread(process.communicate)
        return Finished(process.returncode or 0, output, errors)

    return alembic


@pytest.fixture(scope="session")
async def templates(server_url: str) -> AsyncIterator[Upgraded]:
    """Makes a database without connections at a revision, from the one below; returns its name, empty for base."""
    steps = ("base", *REVISIONS)
    made: dict[str, str] = {}

    async def template(revision: str) -> str:
        for older, newer in pairwise(steps[: steps.index(revision) + 1]):
            if newer not in made:
                name = f"revision_{uuid4().hex}"
                url = await create_database(server_url, name, made.get(older, ""))
                await asyncio.to_thread(migrations.upgrade, url, newer)
                made[newer] = name
        return made.get(revision, "")

    yield template
    for name in made.values():
        await drop_database(server_url, name)


@pytest.fixture
async def upgraded_to(server_url: str, templates: Upgraded) -> AsyncIterator[Upgraded]:
    """Makes the test's database at a revision; returns its URL."""
    made = []

    async def upgraded_to(revision: str) -> str:
        made.append(name := f"test_{uuid4().hex}")
        return await create_database(server_url, name, await templates(revision))

    yield upgraded_to
    for name in made:
        await drop_database(server_url, name)


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's database that reads timestamps in UTC."""
    connection = await asyncpg.connect(empty_database_url, server_settings={"timezone": "UTC"})
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def database_schema() -> Callable[[str], Awaitable[str]]:
    """A database's schema in the format of schema.sql: `await database_schema(url)`."""
    spec = importlib.util.spec_from_file_location("schema_dump", ROOT / "tests/schema_dump.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Callable[[str], Awaitable[str]]", module.dump)
