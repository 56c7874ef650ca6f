"""kill -9 of PostgreSQL at every failpoint: the service survives it, and finishes once."""

from __future__ import annotations

import asyncio
from random import Random

from .invariants import Findings, conclude
from .kills import Contract, come_to, tried_until_reached
from .postgres_cluster import PostgresCluster
from .world import World


@tried_until_reached
async def kill_database_at(world: World, failpoint: str, contract: Contract, random: Random) -> Findings:
    """Kill PostgreSQL while a replica is at a failpoint; it continues before or after PostgreSQL is back."""
    await world.billing.set(honour_idempotency_key=contract.honours_keys)
    candidates = await world.register(random.randint(1, 3))
    replica, foreign = await come_to(world, failpoint, contract, candidates, random, action="wait")
    cluster = world.cluster
    assert isinstance(cluster, PostgresCluster), "this PostgreSQL must not be killed"
    cluster.kill()
    goes_on_before = random.random() < 0.5
    try:
        if goes_on_before:
            replica.pass_failpoint()
            await asyncio.sleep(random.uniform(0.0, 0.5))
    finally:
        await cluster.restart()
    if not goes_on_before:
        replica.pass_failpoint()
    await world.billing.fail("none")
    await world.answers(replica)
    return await conclude(
        world, replica, candidates, foreign=foreign, at_most_one_request=not contract.retries_ambiguous
    )
