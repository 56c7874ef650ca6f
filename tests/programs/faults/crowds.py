"""Many concurrent decisions about one candidate: only one counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from .invariants import READ_DECISIONS, Findings, examine
from .service_process import Replica
from .world import Answer, Candidate, World

RACES_AT_ONCE = 8
PATIENT = {"BILLING_TIMEOUT_SECONDS": 5, "BILLING_DEADLINE_SECONDS": 20, "DATABASE_POOL_SIZE": 10}


async def approve_in_a_crowd(world: World, random: Random, *, trials: int = 1, callers: int = 50) -> Findings:
    """Approve one candidate fifty times at once, through two replicas."""
    replicas = await _two_replicas(world)
    findings = Findings()
    for _ in range(trials):
        await world.billing.set(latency_ms=random.choice([0, 0, 5, 30]))
        [candidate] = await world.register()
        answers = await asyncio.gather(*(world.approve(replicas[i % 2], candidate) for i in range(callers)))
        counts = _counts(answers)
        assert counts[200] == 1, counts
        assert set(counts) <= {200, 400, 409}, counts
        findings.add(await examine(world, [candidate]))
    return findings


async def race_decisions(
    world: World, random: Random, *, races: int = 8, replicas: list[Replica] | None = None
) -> Findings:
    """Approve and reject candidates at once, through two replicas."""
    replicas = replicas or await _two_replicas(world)
    await world.billing.set(latency_ms=random.choice([0, 2, 10]))
    findings = Findings()
    for done in range(0, races, RACES_AT_ONCE):
        if done % 1000 == 0:
            await world.billing.forget_requests()
        candidates = await world.register(min(RACES_AT_ONCE, races - done))
        outcomes = await asyncio.gather(*(_race(world, replicas, random, candidate) for candidate in candidates))
        for counts in outcomes:
            assert counts[200] == 1, counts
            assert set(counts) <= {200, 400, 409}, counts
        rows = await world.fetch(READ_DECISIONS, [candidate.id for candidate in candidates])
        assert all(row["status"] in ("approved", "rejected") for row in rows)
        findings.add(await examine(world, candidates))
    return findings


async def _race(world: World, replicas: list[Replica], random: Random, candidate: Candidate) -> Counter[int | None]:
    decisions = [world.approve, world.reject] * random.randint(1, 2)
    random.shuffle(decisions)
    return _counts(await asyncio.gather(*(decide(random.choice(replicas), candidate) for decide in decisions)))


async def _two_replicas(world: World) -> list[Replica]:
    replicas = [await world.start("one", **PATIENT), await world.start("other", **PATIENT)]
    await world.log_in(replicas[0])
    return replicas


def _counts(answers: list[Answer]) -> Counter[int | None]:
    return Counter(None if answer is None else answer.status_code for answer in answers)
