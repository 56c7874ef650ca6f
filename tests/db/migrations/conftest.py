"""Fixtures to run alembic and to inspect the schema afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import asyncpg
import pytest

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Finished:
    """A finished program."""

    status: int
    output: str
    errors: str


Program = Callable[..., Awaitable[Finished]]


async def _python(*arguments: str | Path, cwd: Path = ROOT, **environment: str) -> Finished:
    kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, arguments),
        cwd=cwd,
        env={**kept, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return Finished(process.returncode or 0, output.decode(), errors.decode())


@pytest.fixture
def python() -> Program:
    """Run Python in the repository's root: `await python("-m", "alembic", "upgrade", "head", DATABASE_URL=url)`."""
    return _python


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
