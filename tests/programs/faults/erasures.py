"""Erasing a company's data while its approval is claimed: one of the two wins, and no provider is orphaned."""

from __future__ import annotations

import asyncio
from random import Random

from provider_registration.privacy.errors import ApprovalUnfinishedError

from .crowds import PATIENT
from .invariants import READ_DECISIONS, Findings, conclude
from .service_process import Replica
from .world import Answer, Candidate, World

AT_ONCE = 6
STAGGERED_SECONDS = 0.1  # within which both start, so that either may wait first
WAITING_SECONDS = 4.0  # until all wait for the rows; the service times out after 5


async def erase_during_claims(world: World, random: Random, *, rounds: int = 2) -> Findings:
    """Approve and erase candidates at once, while others hold their rows."""
    replica = await world.start(**PATIENT)
    await world.log_in(replica)
    findings = Findings()
    stood = 0
    for _ in range(rounds):
        await world.billing.set(latency_ms=random.choice([0, 20, 100]))
        candidates = await world.register(AT_ONCE)
        async with world.holding(candidates):
            races = [asyncio.create_task(_race(world, replica, candidate, random)) for candidate in candidates]
            await world.until_waiting(2 * AT_ONCE, WAITING_SECONDS)
        outcomes = await asyncio.gather(*races)
        rows = {row["id"]: row for row in await world.fetch(READ_DECISIONS, [one.id for one in candidates])}
        for candidate, (answer, was_erased) in zip(candidates, outcomes, strict=True):
            row = rows[candidate.id]
            stood += not was_erased
            assert row["is_erased"] == was_erased, f"{dict(row)}, erased: {was_erased}"
            assert answer is not None, "an approval got no response"
            # 400: the erasure came first and decided.
            assert answer.status_code == {"approved": 200, "rejected": 400}[row["status"]], answer.text
        findings.add(await conclude(world, replica, candidates))
    findings.measured = {"erasures refused for an approval": stood}
    return findings


async def _race(world: World, replica: Replica, candidate: Candidate, random: Random) -> tuple[Answer, bool]:
    """The response to an approval, and whether the candidate was erased."""
    return await asyncio.gather(
        _later(random, world.approve(replica, candidate)), _later(random, _erase(world, candidate))
    )


async def _later(random: Random, work):
    await asyncio.sleep(random.uniform(0, STAGGERED_SECONDS))
    return await work


async def _erase(world: World, candidate: Candidate) -> bool:
    try:
        await world.erase(candidate.email)
    except ApprovalUnfinishedError:
        return False
    return True
