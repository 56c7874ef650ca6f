"""Two replicas that sweep at once: each due approval is claimed by one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from .invariants import Findings, conclude
from .world import World

PATIENT = {"BILLING_TIMEOUT_SECONDS": 4, "BILLING_DEADLINE_SECONDS": 4}  # while the intents are created
LEASE_SECONDS = 1.5 * PATIENT["BILLING_DEADLINE_SECONDS"]


async def sweep_together(world: World, random: Random, *, intents: int = 50) -> Findings:
    """Leave intents of a dead worker, start two replicas, and count the requests to billing."""
    candidates = await world.register(intents)
    await world.billing.fail("hang")
    worker = await world.start("worker", **PATIENT)
    await world.log_in(worker)
    for candidate in candidates:
        world.in_background(worker, world.approve(worker, candidate))
    await world.until_count("true", candidates, intents, 20)
    await world.kill(worker)
    await world.until_count("next_attempt_at > now()", candidates, 0, 2 * LEASE_SECONDS)
    await world.billing.recover()
    await world.billing.set(latency_ms=random.randint(5, 40))  # so that they meet

    one, _other = await asyncio.gather(world.start("one", **PATIENT), world.start("other", **PATIENT))
    findings = await conclude(world, one, candidates)
    asked = Counter(request["key"] for request in await world.billing.requests())
    assert len(asked) == intents, f"{len(asked)} keys for {intents} candidates"
    assert set(asked.values()) == {1}, f"keys were used more often than needed: {asked.most_common(3)}"
    return findings
