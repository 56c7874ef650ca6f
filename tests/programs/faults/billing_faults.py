"""Billing that fails after it has created the provider, and providers of other companies."""

from __future__ import annotations

import asyncio
from random import Random

from .invariants import Findings, conclude, examine
from .world import World

AT_ONCE = 4  # fewer than the successive failures that open the service's breaker


async def lose_answers(world: World, random: Random, *, mode: str, approvals: int = 4) -> Findings:
    """Approve while billing creates the provider and its response is lost: the same provider is adopted.

    In the same request or, if a busy machine made the breaker open, by a sweep.
    """
    replica = await world.start(BILLING_DEADLINE_SECONDS=4)
    await world.log_in(replica)
    findings = Findings()
    later = 0
    for _ in range(0, approvals, AT_ONCE):
        candidates = await world.register(AT_ONCE)
        names = [candidate.name for candidate in candidates]
        await world.billing.fail(mode, times=AT_ONCE, names=names, delay=random.uniform(0, 0.1))
        answers = await asyncio.gather(*(world.approve(replica, candidate) for candidate in candidates))
        codes = [answer and answer.status_code for answer in answers]
        assert set(codes) <= {200, 502}, codes
        later += codes.count(502)
        findings.add(await conclude(world, replica, candidates))
        assert findings.in_doubt == 0, "keys identify the provider, so no admin is needed"
    findings.measured = {"adopted by a sweep": later}
    return findings


async def meet_foreign_companies(world: World, _random: Random, *, approvals: int = 4) -> Findings:
    """Approve candidates whose name another company has in billing: refused, nothing adopted, and then rejected."""
    replica = await world.start()
    await world.log_in(replica)
    findings = Findings()
    for _ in range(0, approvals, AT_ONCE):
        candidates = await world.register(AT_ONCE)
        foreign = {candidate.name: await world.billing.plant(candidate.name) for candidate in candidates}
        answers = await asyncio.gather(*(world.approve(replica, candidate) for candidate in candidates))
        assert [answer and answer.status_code for answer in answers] == [409] * AT_ONCE
        findings.add(await examine(world, candidates, foreign=foreign))
        findings.add(await conclude(world, replica, candidates, foreign=foreign))
        assert findings.in_doubt == 0, "a first attempt is not in doubt"
    return findings
