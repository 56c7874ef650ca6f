"""The clock of PostgreSQL, of the service or of both is changed during approvals."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from tests.clock import NOTICED_SECONDS, RIGHT, TEN_MINUTES, Clock
from tests.programs.drills.postgres_program import started_instead

from .invariants import Findings
from .kills import Contract, kill_at
from .pauses import pause_at
from .postgres_cluster import PostgresCluster
from .world import World

STEPS = (-TEN_MINUTES, 0, TEN_MINUTES)  # relative to the real time


@dataclass(frozen=True)
class Clocks:
    """The clocks of PostgreSQL and the service."""

    database: Clock
    service: Clock

    async def step(self, random: Random) -> None:
        """Change one of them, or both."""
        for clock in random.choice([(self.database,), (self.service,), (self.database, self.service)]):
            clock.set(random.choice([step for step in STEPS if step != clock.ahead]))
        await asyncio.sleep(NOTICED_SECONDS)


async def step_at(world: World, failpoint: str, contract: Contract, random: Random) -> Findings:
    """Change clocks while a replica is dead or stopped at a failpoint; all is finished as with correct clocks."""
    async with _clocks(world) as clocks:
        await clocks.step(random)
        run = random.choice([kill_at, pause_at])
        return await run(world, failpoint, contract, random, meanwhile=lambda: clocks.step(random))


@asynccontextmanager
async def _clocks(world: World) -> AsyncIterator[Clocks]:
    """PostgreSQL and the service have their own clocks during the block."""
    assert shutil.which("faketime"), "this needs libfaketime (Debian, Ubuntu: apt install faketime)"
    cluster = world.cluster
    assert isinstance(cluster, PostgresCluster), "this PostgreSQL's clock must not be changed"
    clocks = Clocks(Clock(cluster.home.parent / "database.clock"), Clock(world.folder / "service.clock"))
    fork_server = await world.other_fork_server("clock", clocks.service.environment)
    world.forget_token()  # it is from another time
    try:
        async with started_instead(cluster, world.folder, world.database_url, clocks.database.environment):
            try:
                [row] = await world.fetch("SELECT extract(epoch FROM clock_timestamp()) AS seconds")
                assert abs(float(row["seconds"]) - RIGHT - time.time()) < TEN_MINUTES / 2, "the clock cannot be set"
                with world.starting_from(fork_server):
                    yield clocks
            finally:
                await world.clear()
    finally:
        await cluster.restart()
        world.forget_token()
