"""The previous release beside this one, on this schema: each takes over approvals of the other."""

from __future__ import annotations

import asyncio
from random import Random

from tests.older import ROOT, sources_before

from .crowds import PATIENT, race_decisions
from .invariants import Findings
from .kills import Contract, kill_at
from .pauses import pause_at
from .service_process import ForkServer
from .world import World

NEWEST_STEP = max((ROOT / "alembic/versions").glob("[0-9]*.py")).relative_to(ROOT)


async def change_versions_at(world: World, failpoint: str, contract: Contract, random: Random) -> Findings:
    """Kill or stop a replica of one release at a failpoint, and have one of the other release finish."""
    first, second = random.sample([await _older_release(world), world.fork_server], 2)

    async def change() -> None:
        world.fork_server = second

    run = random.choice([kill_at, pause_at])
    with world.starting_from(first):
        return await run(world, failpoint, contract, random, meanwhile=change)


async def race_between_versions(world: World, random: Random, *, races: int = 16) -> Findings:
    """Approve and reject candidates at once, through one replica of each release."""
    present = await world.start("present", **PATIENT)
    with world.starting_from(await _older_release(world)):
        other = await world.start("older", **PATIENT)
    await world.log_in(random.choice([present, other]))  # a token of one release is valid at the other
    return await race_decisions(world, random, races=races, replicas=[present, other])


async def _older_release(world: World) -> ForkServer:
    """The release before the newest migration.

    Raises:
        NoHistory: the repository does not have it.
    """
    folder = world.folder / "older"
    if not folder.exists():
        await asyncio.to_thread(sources_before, str(NEWEST_STEP), folder)
    return await world.other_fork_server("older", {"PYTHONPATH": str(folder / "src")})
