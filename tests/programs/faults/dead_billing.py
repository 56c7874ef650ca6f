"""Billing that is down for a long time: it gets few requests, and is used again soon after it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random

from prometheus_client.parser import text_string_to_metric_families

from .invariants import Findings, conclude
from .service_process import Replica
from .world import IMPATIENT, Candidate, World

AT_ONCE = 10
RETRIES_IN_A_BURST = 20  # the service's retry budget when it is full
SPENDING = RETRIES_IN_A_BURST + 5  # approvals that fail and use it up
CALLS_AN_APPROVAL = 1.1  # at most, once it is used up
CALLS = "calls per approval"
FOUND_AGAIN_WITHIN = 10.0  # seconds
LONGEST_PAUSE = 5.0  # seconds, so that billing is back at any time of the breaker's pause

PRODUCTION: Mapping[str, object] = dict.fromkeys(IMPATIENT)  # the service's own defaults
HURRIED = {"BILLING_TIMEOUT_SECONDS": 1, "BILLING_DEADLINE_SECONDS": 4}


async def refuse_connections(
    world: World, random: Random, *, approvals: int = 300, settings: Mapping[str, object] = PRODUCTION
) -> Findings:
    """Nothing listens at billing's port."""
    replica = await _start(world, settings)
    await world.billing.close()
    candidates, calls = await _approve_in_vain(world, replica, approvals)
    await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))
    await world.billing.start()
    return await _find_it_again(world, replica, candidates, calls)


async def never_answer(
    world: World, random: Random, *, approvals: int = 300, settings: Mapping[str, object] = PRODUCTION
) -> Findings:
    """Billing accepts requests and never responds."""
    replica = await _start(world, settings)
    await world.billing.fail("hang")
    candidates, calls = await _approve_in_vain(world, replica, approvals)
    await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))
    await world.billing.fail("none")
    return await _find_it_again(world, replica, candidates, calls)


async def fail_for_some(world: World, random: Random, *, approvals: int = 200) -> Findings:
    """Billing fails for every other company, so the breaker stays closed: only the retry budget limits retries."""
    # A lease so long that the sweep, whose attempts would count too, runs after the end.
    replica = await _start(
        world, {"BILLING_MAX_TRIES": 2, "BILLING_TIMEOUT_SECONDS": 5, "BILLING_DEADLINE_SECONDS": 300}
    )
    candidates = await world.register(approvals)
    bad = random.sample(candidates, approvals // 2)
    await world.billing.fail("fail_503", names=[candidate.name for candidate in bad])
    good = [candidate for candidate in candidates if candidate not in bad]
    pairs = list(zip(good, bad, strict=True))
    await _approve_pairs(world, replica, pairs[:SPENDING])
    before = await _calls(world, replica)
    await _approve_pairs(world, replica, pairs[SPENDING:])
    calls = (await _calls(world, replica) - before) / (2 * len(pairs[SPENDING:]))
    assert calls <= CALLS_AN_APPROVAL, f"{calls} calls per approval"
    await world.kill(replica)
    await world.billing.fail("none")
    findings = await conclude(world, await world.start(), candidates)
    findings.measured = {CALLS: calls}
    return findings


async def _approve_pairs(world: World, replica: Replica, pairs: list[tuple[Candidate, Candidate]]) -> None:
    for pair in pairs:
        answers = await asyncio.gather(*(world.approve(replica, candidate) for candidate in pair))
        assert [answer and answer.status_code for answer in answers] == [200, 502]


async def _start(world: World, settings: Mapping[str, object]) -> Replica:
    replica = await world.start(**settings)
    await world.log_in(replica)
    return replica


async def _approve_in_vain(world: World, replica: Replica, approvals: int) -> tuple[list[Candidate], float]:
    candidates = await world.register(approvals)
    for first in range(0, approvals, AT_ONCE):
        some = candidates[first : first + AT_ONCE]
        answers = await asyncio.gather(*(world.approve(replica, candidate) for candidate in some))
        assert {answer and answer.status_code for answer in answers} <= {502, 503}
    calls = await _calls(world, replica)
    allowed = CALLS_AN_APPROVAL * approvals + RETRIES_IN_A_BURST
    assert calls <= allowed, f"{calls} calls for {approvals} approvals"
    return candidates, calls / approvals


async def _find_it_again(world: World, replica: Replica, candidates: list[Candidate], calls: float) -> Findings:
    loop = asyncio.get_running_loop()
    back = loop.time()
    [newcomer] = await world.register()
    while (answer := await world.approve(replica, newcomer)) is None or answer.status_code != 200:
        assert loop.time() < back + FOUND_AGAIN_WITHIN, f"billing is back and was not found: {answer and answer.text}"
        await asyncio.sleep(0.2)
    found_after = loop.time() - back
    assert found_after < FOUND_AGAIN_WITHIN, f"billing is back and was found after {found_after:.1f} s"
    findings = await conclude(world, replica, [*candidates, newcomer])
    findings.recovery_seconds = found_after
    findings.measured = {CALLS: calls}
    return findings


async def _calls(world: World, replica: Replica) -> int:
    """Requests that the service sent or tried to send to billing."""
    response = await world.ask(replica, "GET", "/metrics")
    assert response is not None, "no metrics"
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name == "provider_service_billing_calls_total" and sample.labels["outcome"] != "circuit_open"
    )
