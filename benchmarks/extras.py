"""Measurements of this service only: reads during twenty simultaneous logins, and the cost of approvals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from statistics import median

import httpx

from benchmarks.bench import Measurement, Plan, started
from benchmarks.billing_stub import CALL_SECONDS
from benchmarks.contenders import OURS, Running
from benchmarks.database import ADMIN_EMAIL, ADMIN_PASSWORD, Databases
from benchmarks.drivers import Load, Sample
from benchmarks.processes import NO_TLS
from benchmarks.scenarios import ALL

LOGINS_AT_ONCE = 20
READERS = 4  # connections
READ = replace(next(scenario for scenario in ALL if scenario.name == "get_16"), connections=READERS)


async def _log_in_over_and_over(running: Running) -> None:
    credentials = {"username": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60, verify=NO_TLS) as client:

        async def one() -> None:
            while True:
                response = await client.post("/auth/login", json=credentials)
                if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:  # too many at once for a slow machine
                    await asyncio.sleep(int(response.headers["Retry-After"]))
                else:
                    response.raise_for_status()

        await asyncio.gather(*(one() for _ in range(LOGINS_AT_ONCE)))


async def during_logins(plan: Plan, databases: Databases) -> list[str]:
    """A sentence about the 99th percentile of reads, alternately without and with logins."""
    idle: list[Sample] = []
    busy: list[Sample] = []
    async with started([OURS], databases, auth=True) as (running,):
        load = Load(READ, await READ.paths(running) if READ.paths else [])
        for _ in range(plan.rounds):
            idle.append(await plan.driver.run(running, load, seconds=plan.seconds))
            logins = asyncio.create_task(_log_in_over_and_over(running))
            try:
                busy.append(await plan.driver.run(running, load, seconds=plan.seconds))
            finally:
                logins.cancel()
                with suppress(asyncio.CancelledError):
                    await logins
    quiet, loud = (median(sample.p99 for sample in samples) for samples in (idle, busy))
    reads = f"p99 of reads by ID over {READERS} connections: {loud:.1f} ms during {LOGINS_AT_ONCE} concurrent sign-ins"
    return [f"{reads}, {quiet:.1f} without; {loud / quiet:.1f} times"]


def of_approval(measurements: Sequence[Measurement]) -> list[str]:
    """A sentence about the time that ours adds to billing's."""
    times = [m.p50_ms for m in measurements if (m.scenario, m.contender) == ("approve_16", OURS.name)]
    if not times:
        return []
    call = 1000 * CALL_SECONDS
    return [f"p50 of an approval over 16 connections: {median(times):.1f} ms, of which billing's call takes {call:.0f}"]


def of_many_callers(measurements: Sequence[Measurement], pool_size: int) -> list[str]:
    """A sentence about the slowest requests with more clients than database connections."""
    found = [m for m in measurements if (m.scenario, m.contender) == ("get_64", OURS.name)]
    if not found:
        return []
    ratio = median(m.p95_ms / m.p50_ms for m in found)
    return [f"p95 ÷ p50 of reads by ID with 64 clients on {pool_size} connections to PostgreSQL: {ratio:.2f}"]
