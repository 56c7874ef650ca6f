"""The measurement: every contender in turn, in several rounds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from benchmarks.billing_stub import CALL_SECONDS
from benchmarks.contenders import CONTENDERS, WORK, Contender, Running, surroundings
from benchmarks.database import OURS, Databases, forget_made, prepare_pending, server_pid, until_idle
from benchmarks.drivers import Driver, Load, check
from benchmarks.guarantees import check_written, until_quiet
from benchmarks.processes import Process, Usage, usage
from benchmarks.scenarios import Scenario
from provider_registration.local.postgres import free_port

WARM_UP_SECONDS = 1.0
SETTLE_SECONDS = 0.2  # between two runs, for work after the last response
MOST_APPROVALS = 1 / CALL_SECONDS  # a second over one connection
MOST_REJECTIONS = 1_500.0
LEAST_DECISIONS = 500.0  # that are prepared for each second
FASTER_WHEN_WARM = 4  # times, at most


@dataclass(frozen=True)
class Measurement:
    """One run of one contender."""

    stage: str
    scenario: str
    contender: str
    round: int
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float | None  # of the server, a request
    database_cpu_ms: float  # of PostgreSQL, a request
    memory_mb: float | None


@dataclass(frozen=True)
class Stage:
    """A table of a given size, with or without authentication, and its scenarios."""

    rows: int
    auth: bool
    scenarios: Sequence[Scenario]
    everyone: bool = True  # or only those that are measured everywhere

    @property
    def name(self) -> str:
        """As in reports."""
        return f"{self.rows:,} rows" + ("" if self.auth else ", peers without authentication")


@dataclass
class Plan:
    """How long, how often, and by what."""

    driver: Driver
    rounds: int
    seconds: float
    decisions_per_second: int  # pending candidates prepared for each second of a run
    tell: Callable[[str], None]
    settle: float = SETTLE_SECONDS
    measurements: list[Measurement] = field(default_factory=list)


@asynccontextmanager
async def billing() -> AsyncIterator[str]:
    """The billing stub; yields its URL."""
    port = free_port()
    log = WORK / "logs/billing.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).parent / "billing_stub.py"), str(port)]
    process = Process(command, environment={}, folder=WORK, log=log)
    try:
        url = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(process.wait_for, url)
        yield url
    finally:
        process.stop()


@asynccontextmanager
async def started(contenders: Sequence[Contender], databases: Databases, *, auth: bool) -> AsyncIterator[list[Running]]:
    """Every contender, answering."""
    with ExitStack() as stopping:
        async with billing() as billing_url:
            running = []
            for contender in contenders:
                one = await asyncio.to_thread(contender.start, surroundings(databases, billing_url, auth=auth))
                stopping.callback(one.process.stop)
                running.append(one)
            yield running
            stopping.close()


def takes_part(contender: Contender, scenario: Scenario) -> bool:
    """Whether a contender gets this scenario."""
    is_of_a_kind = not contender.kinds or scenario.kind in contender.kinds
    return is_of_a_kind and scenario.connections >= contender.least_connections


async def measure_stage(plan: Plan, stage: Stage, contenders: Sequence[Contender], databases: Databases) -> None:
    """Measure every scenario of a stage, all contenders in turn."""
    contenders = [
        contender
        for contender in contenders
        if (stage.everyone or contender.everywhere) and any(takes_part(contender, each) for each in stage.scenarios)
    ]
    async with started(contenders, databases, auth=stage.auth) as everyone:
        postgres = await server_pid(databases.urls[OURS])
        for scenario in stage.scenarios:
            running = [one for one in everyone if takes_part(one.contender, scenario)]
            loads = {one.contender.name: await _walk(one, scenario) for one in running}
            rates = {}
            for one in running:
                rates[one.contender.name] = await _warm_up(plan, one, scenario, loads[one.contender.name])
            for number in range(plan.rounds):
                shift = number % max(1, len(running))  # so that the order differs
                for one in running[shift:] + running[:shift]:
                    decisions = _decisions(plan, scenario, plan.seconds, rates[one.contender.name])
                    load = await _load(one, scenario, loads[one.contender.name], decisions)
                    sample = await _measure(plan, stage, one, load, number, postgres)
                    plan.measurements.append(sample)
                    plan.tell(
                        f"{stage.name} · {scenario.title} · round {number + 1} · {sample.contender}: "
                        f"{sample.requests_per_second:,.0f}/s, p99 {sample.p99_ms:.1f} ms"
                    )


async def _walk(one: Running, scenario: Scenario) -> list[str]:
    return await scenario.paths(one) if scenario.paths else []


async def _load(one: Running, scenario: Scenario, paths: list[str], decisions: int) -> Load:
    """What to send; a scenario that decides gets new pending candidates each time."""
    word = f"{time.time_ns()}"
    if not scenario.decision:
        return Load(scenario, paths, word)
    ids = await prepare_pending(one.database_url, decisions)
    return Load(scenario, [f"/candidates/{id_}/{scenario.decision}" for id_ in ids], word)


async def _warm_up(plan: Plan, one: Running, scenario: Scenario, paths: list[str]) -> float:
    """Check the responses, and warm up caches and compilers; return requests a second."""
    await check(one, await _load(one, scenario, paths, 1))
    seconds = min(WARM_UP_SECONDS, plan.seconds)
    load = await _load(one, scenario, paths, _decisions(plan, scenario, seconds))
    sample = await plan.driver.run(one, load, seconds=seconds)
    if scenario.writes:
        await asyncio.sleep(plan.settle)
        await forget_made(one.database_url)
    return sample.requests / sample.seconds


def _decisions(plan: Plan, scenario: Scenario, seconds: float, rate: float = inf) -> int:
    """More than a contender can decide, if it decided `rate` a second while it warmed up."""
    most = MOST_APPROVALS if scenario.decision == "approve" else MOST_REJECTIONS
    likely = max(LEAST_DECISIONS, FASTER_WHEN_WARM * rate)
    return max(1, int(min(plan.decisions_per_second, most * scenario.connections, likely) * seconds))


async def _measure(
    plan: Plan, stage: Stage, one: Running, load: Load, number: int, postgres: int | None
) -> Measurement:
    scenario = load.scenario
    one.tokens()  # new ones if needed, before time is measured
    await until_quiet(one.around.billing_url)
    await until_idle(one.database_url)
    before, database_before = usage(one.process.pid), usage(postgres)
    sample = await plan.driver.run(one, load, seconds=plan.seconds)
    await asyncio.sleep(plan.settle)
    after, database_after = usage(one.process.pid), usage(postgres)
    if scenario.writes:
        if one.contender.has_our_schema:
            await check_written(one.database_url, one.around.billing_url, scenario, sample.requests)
        await forget_made(one.database_url)
    return Measurement(
        stage.name,
        scenario.name,
        one.contender.name,
        number,
        requests_per_second=sample.requests / sample.seconds,
        p50_ms=sample.p50,
        p95_ms=sample.p95,
        p99_ms=sample.p99,
        cpu_ms=_each(before, after, sample.requests),
        database_cpu_ms=_each(database_before, database_after, sample.requests),
        memory_mb=after.memory_bytes / 1e6,
    )


def _each(before: Usage, after: Usage, requests: int) -> float:
    """CPU milliseconds a request."""
    return 1000 * (after.cpu_seconds - before.cpu_seconds) / requests


def can_serve_workers() -> bool:
    """Whether this checkout's `serve` has workers."""
    told = subprocess.run(
        [sys.executable, "-m", "provider_registration", "serve", "--help"], capture_output=True, text=True, check=False
    )
    return "--workers" in told.stdout


def chosen(names: Sequence[str], *, quick: bool) -> list[Contender]:
    """The contenders of these names, or all that this checkout can run, or those of a quick run."""
    found = [
        contender
        for name, contender in CONTENDERS.items()
        if name in names or (not names and (contender.quick or not quick))
    ]
    return [c for c in found if c.name != "ours_2_workers" or can_serve_workers()]
