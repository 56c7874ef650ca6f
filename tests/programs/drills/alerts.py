"""Cause the faults that Prometheus alerts on, and watch each alert start and end: `-m tests.programs.drills.alerts`.

The rules, their windows and the scrape intervals are the original ones, so it takes 17 minutes.
"""

from __future__ import annotations

import asyncio
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx

from tests.operations.deployed import alerts as shipped
from tests.programs.faults.postgres_cluster import PostgresCluster
from tests.programs.faults.service_process import Replica
from tests.programs.faults.world import EMAIL, PASSWORD, World
from tests.redis_server import Redis
from tests.service import a_registration
from tests.standby import standby_of

from .programs import beside, run_drill, signal_tree, tell, temporary_folder
from .prometheus import Alerts, watching
from .report import Report
from .stage import METRICS_TOKEN, as_in_production, prepared

COLUMNS = ("fault", "alert", "severity", "pending after, s", "firing after, s", "ended after the fix, s")
BLIP_SECONDS = 1.5
BLIP_WATCHED_SECONDS = 240.0  # longer than the alert's window and `for` together
MOST_SECONDS = 660.0  # until an alert fires, or has ended
PROBING_SECONDS = 6.0  # between approvals: longer than the breaker's pause, so that each calls billing

DATABASE_HANGS = "PostgreSQL hangs, requests continue"
BILLING_IS_BACK = "billing is down, then back, without calls"

FORGET_OLD = """
    WITH old AS (SELECT id FROM candidates WHERE company_name = 'forgotten'), events AS (
        DELETE FROM candidate_events WHERE candidate_id IN (SELECT id FROM old)
    )
    DELETE FROM candidates WHERE id IN (SELECT id FROM old)
"""
INSERT_OLD = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day, created_at)
    VALUES ('forgotten', 'forgotten@example.com', ARRAY['apples'], 1, 1, now() - interval '4 days')
"""

Step = Callable[[], Awaitable[object]]


@dataclass
class Trials:
    """Causes faults, waits for their alerts, and measures the times."""

    report: Report
    alerts: Alerts

    async def run(self, fault: str, name: str, make: Step, cure: Step) -> None:
        """One fault: its alert fires while it lasts, and ends after the cure."""
        tell(f"{fault} …")
        await make()
        pending, firing = await self._fires(name)
        await cure()
        ended = await self.alerts.until(name, set(), MOST_SECONDS)
        self.add(fault, name, pending, firing, ended)

    async def _fires(self, name: str) -> tuple[float, float]:
        pending = await self.alerts.until(name, {"pending", "firing"}, MOST_SECONDS)
        return pending, pending + await self.alerts.until(name, {"firing"}, MOST_SECONDS)

    async def silent(self, fault: str, name: str, seconds: float) -> None:
        """A fault that is already over: its alert does not fire."""
        await self.alerts.stays_silent(name, seconds)
        self.add(fault, name, "–", "never", "–")

    def add(self, fault: str, name: str, *times: object) -> None:
        """Add a row."""
        alert, _, status = name.partition(" ")
        severity = shipped()[f"ProviderRegistration{alert}"]["labels"]["severity"]
        self.report.add(fault, f"{alert}, {status}" if status else alert, severity, *times)
        tell(f"{fault}: {name}, {times}")


@dataclass
class Stage:
    """One service with its dependencies, and a second one with its own database on the same server."""

    world: World
    cluster: PostgresCluster
    redis: Redis
    main: Replica
    second_url: str
    standby: asyncpg.Connection
    client: httpx.AsyncClient
    targets: list[str]
    is_thawed: asyncio.Event = field(default_factory=asyncio.Event)

    async def browse(self) -> None:
        """Two requests a second, one of which writes."""
        while True:
            await self.world.ask(self.main, "GET", "/candidates")
            await asyncio.sleep(0.5)
            await self.world.ask(self.main, "POST", "/candidates", json=a_registration())
            await asyncio.sleep(0.5)

    async def approve(self) -> None:
        """An approval now and then."""
        while True:
            [candidate] = await self.world.register()
            await self.world.approve(self.main, candidate)
            await asyncio.sleep(PROBING_SECONDS)

    async def freeze(self) -> None:
        signal_tree(self.cluster.pid, signal.SIGSTOP)

    async def thaw(self) -> None:
        signal_tree(self.cluster.pid, signal.SIGCONT)


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Start everything; it ends with the block."""
    async with AsyncExitStack() as stopping:
        world = await stopping.enter_async_context(prepared(folder))
        cluster = world.cluster
        assert isinstance(cluster, PostgresCluster)
        options = {"max_connections": "300"}  # a standby needs no fewer than its primary
        standby_url = await asyncio.to_thread(
            stopping.enter_context, standby_of(world.database_url, folder / "standby", options)
        )
        standby_url = urlsplit(standby_url)._replace(path=urlsplit(world.database_url).path).geturl()
        standby = await asyncpg.connect(standby_url)
        stopping.push_async_callback(standby.close)
        redis = Redis(folder)
        redis.start()
        stopping.callback(redis.stop)
        second_url = await cluster.create_database()
        more = {"DATABASE_READ_URL": standby_url, "RATE_LIMIT_STORAGE_URL": redis.url}
        main = await world.start("main", **as_in_production(RATE_LIMIT_DEFAULT="1000000/minute", **more))
        await world.log_in(main)
        second = await world.start("second", database_url=second_url, **as_in_production())
        client = await stopping.enter_async_context(httpx.AsyncClient(base_url=main.url, timeout=30, trust_env=False))
        targets = [urlsplit(one.url).netloc for one in (main, second)]
        stage = Stage(world, cluster, redis, main, second_url, standby, client, targets)
        stopping.push_async_callback(stage.thaw)  # a suspended server cannot be stopped
        yield stage


async def nothing() -> None:
    """For a fault that another trial causes."""


async def database_hangs(trials: Trials, stage: Stage) -> None:
    """PostgreSQL hangs during traffic."""
    await trials.run(DATABASE_HANGS, "DatabaseDown", stage.freeze, stage.thaw)
    stage.is_thawed.set()


async def errors_are_503(trials: Trials, stage: Stage) -> None:
    """The responses during the fault."""
    await trials.run(DATABASE_HANGS, "ErrorBudgetBurnsFast 503", nothing, stage.is_thawed.wait)


async def database_dies(trials: Trials, stage: Stage) -> None:
    """PostgreSQL dies without traffic."""

    async def die() -> None:
        stage.cluster.kill()

    await trials.run("PostgreSQL is killed, nobody asks", "DatabaseDown", die, stage.cluster.restart)


async def redis_fails(trials: Trials, stage: Stage) -> None:
    """A blip, then an outage."""
    name = "RateLimitStorageFails"
    stage.redis.hang()
    await asyncio.sleep(BLIP_SECONDS)
    stage.redis.go_on()
    await trials.silent(f"Redis hangs for {BLIP_SECONDS} s", name, BLIP_WATCHED_SECONDS)

    async def stop() -> None:
        stage.redis.stop()

    async def start() -> None:
        stage.redis.start()

    await trials.run("Redis is stopped", name, stop, start)


async def billing_fails(trials: Trials, stage: Stage) -> None:
    """Twice: after the cure once without and once with calls to billing."""
    name = "BillingBreakerOpen"
    approving: list[asyncio.Task[None]] = []
    is_back = asyncio.Event()

    async def die() -> None:
        await stage.world.billing.close()
        approving.append(asyncio.create_task(stage.approve()))

    async def come_back() -> None:
        await stage.world.billing.start()
        is_back.set()

    async def come_back_unasked() -> None:
        approving.pop().cancel()
        await come_back()

    await asyncio.gather(
        trials.run(BILLING_IS_BACK, name, die, come_back_unasked),
        trials.run(BILLING_IS_BACK, "ErrorBudgetBurnsFast 502", nothing, is_back.wait),
    )
    await trials.run("billing is down, then back, with calls", name, die, come_back)
    approving.pop().cancel()


async def replica_stands_still(trials: Trials, stage: Stage) -> None:
    """Its replay is paused."""
    await trials.run(
        "the replica's replay is paused",
        "ReplicaBehind",
        lambda: stage.standby.execute("SELECT pg_wal_replay_pause()"),
        lambda: stage.standby.execute("SELECT pg_wal_replay_resume()"),
    )


async def transaction_stays_open(trials: Trials, stage: Stage) -> None:
    """An idle transaction."""
    connection = await asyncpg.connect(stage.world.database_url)
    try:
        await trials.run(
            "a transaction is left open",
            "TransactionOpen",
            lambda: connection.execute("BEGIN; SELECT"),
            lambda: connection.execute("ROLLBACK"),
        )
    finally:
        await connection.close()


async def candidate_waits(trials: Trials, stage: Stage) -> None:
    """For four days."""
    await trials.run(
        "a company has waited for four days",
        "CandidateWaits",
        lambda: stage.world.fetch(INSERT_OLD),
        lambda: stage.world.fetch(FORGET_OLD),
    )


async def sweep_stands_still(trials: Trials, stage: Stage) -> None:
    """A session locks the second service's approvals table."""
    connection = await asyncpg.connect(stage.second_url)
    try:
        await trials.run(
            "a table is locked, sweeps fail",
            "SweepStale",
            lambda: connection.execute("BEGIN; LOCK TABLE approval_intents"),
            lambda: connection.execute("ROLLBACK"),
        )
    finally:
        await connection.close()


async def refresh_storm(trials: Trials, stage: Stage) -> None:
    """A client sends one refresh token repeatedly."""
    login = await stage.client.post("/auth/login", json={"username": EMAIL, "password": PASSWORD})
    token = {"refresh_token": login.raise_for_status().json()["refresh_token"]}
    storm: list[asyncio.Task[None]] = []

    async def repeat() -> None:
        while True:
            await stage.client.post("/auth/refresh", json=token)
            await asyncio.sleep(2)

    async def begin() -> None:
        storm.append(asyncio.create_task(repeat()))

    async def end() -> None:
        storm.pop().cancel()

    await trials.run("a client repeats a refresh token", "RefreshTokensReused", begin, end)


async def drill(_options: Namespace) -> bool:
    """Run every fault; return whether each alert behaved as expected."""
    report = Report(COLUMNS)
    with temporary_folder("alerts") as folder:
        async with (
            staged(folder) as stage,
            watching(folder / "prometheus", stage.targets, METRICS_TOKEN) as alerts,
        ):
            trials = Trials(report, alerts)
            with report.failures(stage.world.logs):
                async with beside(stage.browse()):
                    await asyncio.sleep(60)  # of requests that succeed
                    fired = {name for name, states in (await alerts.states()).items() if "firing" in states}
                    report.promise(not fired, f"fired without a fault: {fired}")
                    later = asyncio.create_task(errors_are_503(trials, stage))
                    await database_hangs(trials, stage)
                    faults = (
                        *(redis_fails, billing_fails, replica_stands_still, transaction_stays_open),
                        *(candidate_waits, sweep_stands_still, refresh_storm),
                    )
                    under_way = (later, *(one(trials, stage) for one in faults))
                    for result in await asyncio.gather(*under_way, return_exceptions=True):
                        report.promise(not isinstance(result, BaseException), str(result))
                await database_dies(trials, stage)
    return report.show("scraped every 15 s, with the shipped rules")


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Cause the faults that alerts report.")
    run_drill(drill, parser, "prometheus", "redis-server")


if __name__ == "__main__":
    main()
