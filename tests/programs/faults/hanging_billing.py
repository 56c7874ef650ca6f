"""Billing that hangs during a hundred approvals: no other request waits for a database connection."""

from __future__ import annotations

import asyncio
from random import Random

import asyncpg

from .invariants import Findings, conclude
from .service_process import Replica
from .world import Candidate, World

SAMPLE_EVERY = 0.1  # seconds
READ_EVERY = 0.01  # seconds
LONGEST_TRANSACTION = 1.0  # seconds; a claim takes some milliseconds, and waits for a turn with 99 others

# Connections of the service with a transaction that is longer than a short one.
HELD = """
    SELECT state, now() - xact_start AS since, query
    FROM pg_stat_activity
    WHERE application_name = 'provider-registration' AND datname = current_database()
      AND xact_start < now() - make_interval(secs => $1)
"""


async def hang_during_approvals(
    world: World, _random: Random, *, approvals: int = 100, seconds: float = 10.0, longest_read: float = 0.1
) -> Findings:
    """Approve many while billing hangs; watch the database's connections, and read while all of them wait.

    `longest_read` is in seconds, at the 99th percentile.
    """
    patient = {
        "BILLING_TIMEOUT_SECONDS": seconds + 5,
        "BILLING_DEADLINE_SECONDS": seconds + 20,
        "DATABASE_POOL_SIZE": 10,
    }
    replica = await world.start(**patient)
    await world.log_in(replica)
    candidates = await world.register(approvals)
    loop = asyncio.get_running_loop()
    before = _slow(await _read(world, replica, candidates[0], loop.time() + 0.3 * seconds))
    await world.billing.fail("slow", delay=seconds)
    for candidate in candidates:
        world.in_background(replica, world.approve(replica, candidate))
    end = loop.time() + seconds
    watching = asyncio.create_task(_watch(world, end))
    await world.until_count(
        "claim_id IS NOT NULL", candidates, approvals, seconds
    )  # the start of many requests is not a hang
    await world.log_in(replica, again=True)  # a session may have a hundred concurrent requests, and that one has them
    latencies = await _read(world, replica, candidates[0], end)
    held = await watching
    await world.billing.fail("none")

    assert not held, f"a connection was held: {held[0]}"
    slow = _slow(latencies)
    # On a busy machine reads are slow anyway.
    allowed = max(longest_read, 2 * before)
    assert slow < allowed, f"1 % of {len(latencies)} reads took longer than {slow:.3f} s; it was {before:.3f} s before"
    answers = await world.answers(replica)
    assert all(answer.status_code == 200 for answer in answers), "billing was only slow"
    findings = await conclude(world, replica, candidates)
    findings.measured = {
        "connections held": len(held),
        "99th percentile of reads, in ms": 1000 * slow,
        "the same without approvals": 1000 * before,
    }
    return findings


def _slow(latencies: list[float]) -> float:
    return latencies[len(latencies) * 99 // 100]


async def _watch(world: World, end: float) -> list[asyncpg.Record]:
    """Transactions that stayed open, as sampled until the end."""
    held: list[asyncpg.Record] = []
    while asyncio.get_running_loop().time() < end:
        held += await world.fetch(HELD, LONGEST_TRANSACTION)
        await asyncio.sleep(SAMPLE_EVERY)
    return held


async def _read(world: World, replica: Replica, candidate: Candidate, end: float) -> list[float]:
    """The seconds of each read, fastest first."""
    loop = asyncio.get_running_loop()
    latencies = []
    while (begun := loop.time()) < end:
        response = await world.ask(replica, "GET", f"/candidates/{candidate.id}")
        latencies.append(loop.time() - begun)
        assert response is not None, "a read got no response"
        assert response.json()["status"] == "pending", "billing has not responded yet"
        await asyncio.sleep(READ_EVERY)
    return sorted(latencies)
