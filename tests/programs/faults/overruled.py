"""Candidates rejected in SQL while billing creates their provider: it is reported as an orphan, once."""

from __future__ import annotations

import asyncio
from random import Random

from .invariants import Findings, conclude
from .kills import ASKING, Contract, come_to, tried_until_reached
from .service_process import Replica
from .world import Candidate, World

DURING = tuple(point for point in ASKING if point not in ("approval.before-claim", "approval.after-finish-commit"))
ORPHANED = "provider_service_orphaned_providers"
SEEN_SECONDS = 10.0  # until a sweep has set the metric


@tried_until_reached
async def overrule_at(world: World, failpoint: str, contract: Contract, random: Random) -> Findings:
    """Reject candidates in SQL while a replica is at a failpoint; it continues, or another one does after its death."""
    await world.billing.set(honour_idempotency_key=contract.honours_keys)
    candidates = await world.register(random.randint(1, 3))
    dies = random.random() < 0.5
    replica, _ = await come_to(world, failpoint, contract, candidates, random, action="kill" if dies else "wait")
    if dies:
        await replica.wait_until_dead()
    overruled = [candidate for candidate in candidates if await world.overrule(candidate)]
    if dies:
        await world.kill(replica)
        replica = await world.start(**contract.settings)
    else:
        replica.pass_failpoint()
        for answer in await world.answers(replica):
            assert answer.status_code in (200, 400, 409, 502), answer.text
    findings = await conclude(
        world, replica, candidates, overruled=overruled, at_most_one_request=not contract.retries_ambiguous
    )
    await _see_the_metric(world, replica)
    await _see_that_billing_is_left_alone(world, replica, overruled)
    return findings


async def _see_the_metric(world: World, replica: Replica) -> None:
    """The metric of orphans counts providers."""
    [row] = await world.fetch("SELECT count(DISTINCT provider_id) FROM approval_events WHERE event = 'orphaned'")
    try:
        async with asyncio.timeout(SEEN_SECONDS):
            while (shown := await _orphans_shown(world, replica)) != row["count"]:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{row['count']} providers are orphans, and the metric shows {shown}") from None


async def _orphans_shown(world: World, replica: Replica) -> float:
    response = await world.ask(replica, "GET", "/metrics")
    assert response is not None, "metrics got no response"
    lines = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    return float(lines[ORPHANED])


async def _see_that_billing_is_left_alone(world: World, replica: Replica, overruled: list[Candidate]) -> None:
    """No request of an admin now reaches billing."""
    before = len(await world.billing.requests())
    for candidate in overruled:
        for path in ("approve", "approval/retry"):
            response = await world.ask(replica, "POST", f"/candidates/{candidate.id}/{path}")
            assert response is not None, "a request got no response"
            assert response.status_code == 400, response.text
    assert len(await world.billing.requests()) == before, "billing got a request for a rejected candidate"
