"""Worlds on the tests' PostgreSQL: one service loaded per process, forked as often as needed."""

from __future__ import annotations

import asyncio
import random as global_random
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from tests.conftest import create_database, drop_database

from .invariants import Findings
from .postgres_cluster import PostgresCluster
from .service_process import ForkServer
from .world import World

LANES = 3  # most of the time of a scenario is waiting

Run = Callable[[World, Random], Awaitable[Findings]]


class TestServer:
    """The server that all tests share."""

    def __init__(self, url: str, template: str) -> None:
        self._url = url
        self._template = template
        self._made: list[str] = []

    async def create_database(self) -> str:
        """Create a migrated database; return its URL."""
        name = f"faults_{uuid4().hex}"
        self._made.append(name)
        return await create_database(self._url, name, self._template)

    async def drop_databases(self) -> None:
        """Remove what was created."""
        for name in self._made:
            await drop_database(self._url, name)


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """The fork server of this process's services."""
    server = ForkServer(tmp_path_factory.mktemp("services"))
    yield server
    server.close()


@pytest.fixture(scope="session")
async def worlds(
    server_url: str, template: str, fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[World]]:
    """Several worlds at once."""
    folder = tmp_path_factory.mktemp("worlds")
    server = TestServer(server_url, template)
    async with AsyncExitStack() as stopping:
        stopping.push_async_callback(server.drop_databases)
        yield [
            await stopping.enter_async_context(World.open(fork_server, server, folder / str(lane)))
            for lane in range(LANES)
        ]


@pytest.fixture
def random() -> Random:
    """Seeded like the order of the tests; the seed is printed at the start of the run."""
    return Random(global_random.getrandbits(64))  # noqa: S311 - to be repeated, not to be secret


@pytest.fixture
async def world(worlds: list[World]) -> AsyncIterator[World]:
    """One world, cleared afterwards."""
    yield worlds[0]
    await worlds[0].clear()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder for root's PostgreSQL, which runs as another account; pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-faults-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def mortal_world(fork_server: ForkServer, open_folder: Path) -> AsyncIterator[World]:
    """A world whose PostgreSQL may be killed."""
    cluster = PostgresCluster(open_folder)
    await cluster.start()
    async with World.open(fork_server, cluster, open_folder / "world") as world:
        yield world
    await cluster.stop()


@pytest.fixture
def at_each(worlds: list[World], random: Random) -> Callable[[dict[str, Run]], Awaitable[None]]:
    """Runs a scenario at each of its points, some concurrently; failures name the point."""

    async def at_each(runs: dict[str, Run]) -> None:
        failures: list[str] = []
        places = iter(runs.items())

        async def work(world: World) -> None:
            for place, run in places:
                try:
                    findings = await run(world, random)
                    failures.extend(f"{place}: {problem}" for problem in findings.problems)
                except AssertionError as error:
                    failures.append(f"{place}: {error}\n" + "\n".join(world.logs()))
                await world.clear()

        await asyncio.gather(*(work(world) for world in worlds))
        assert not failures, "\n".join(failures)

    return at_each
