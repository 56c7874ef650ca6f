"""The attacked service, on the tests' PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.conftest import create_database, drop_database

from .stage import Stage, staged_on


@pytest.fixture(scope="session")
async def stage(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A running service with a database of its own."""
    name = f"fuzzing_{uuid4().hex}"
    async with staged_on(await create_database(server_url, name), tmp_path_factory.mktemp("stage")) as stage:
        yield stage
    await drop_database(server_url, name)
