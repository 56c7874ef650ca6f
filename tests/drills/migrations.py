"""Upgrade and roll back a release under traffic, as DEPLOYMENT.md says: `python -m tests.drills.migrations --help`."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import asyncpg

from provider_registration import migrations
from provider_registration.local.demo_data import load_demo_data
from provider_registration.settings import DatabaseSettings
from tests.documents.markdown import ROOT
from tests.faults.postgres_cluster import PostgresCluster
from tests.faults.service_process import ForkServer
from tests.faults.world import EMAIL, PASSWORD, World

from .acknowledged import compare
from .fleet import Fleet, Release
from .lock_watch import LockWatch
from .programs import beside, need, run_to_end, tell, temporary_folder
from .report import Report
from .stage import METRICS_TOKEN
from .traffic import Traffic

LOCK_SECONDS = 1.0
OLDER_SCHEMA = "008_sessions"
FIRST_NEWER_STEP = "alembic/versions/009_list_indexes_and_counts.py"
SERVING_ROLE = "provider_registration_api"
SETTLED_SECONDS = 5.0  # of traffic after each step
REPORTS = 2  # long readers at a time
LONGEST_PAUSE = 4.0  # seconds between two reports of one
# The older release sorts and counts the whole table for a list, which keeps a core busy for a while.
PACE, LISTS_A_SECOND = 0.5, 0.5
COLUMNS = (*("step", "seconds", "requests", "failed", "slowest, s", "longest lock, s", "longest wait for it, s"),)


@dataclass
class Steps:
    """What operators do, each step watched."""

    report: Report
    traffic: Traffic
    owner_url: str

    async def do(self, name: str, work: Awaitable[str]) -> None:
        """Do one step under traffic, and add a row."""
        tell(name)
        self.traffic.forget_times()
        begun = time.monotonic()
        async with LockWatch.watching(self.owner_url) as watch:
            await work
            seconds = time.monotonic() - begun
            await asyncio.sleep(SETTLED_SECONDS)
        slowest, endpoint = self.traffic.slowest_request
        failures = self.traffic.failures
        self.report.add(
            *(name, seconds, self.traffic.requests.total(), len(failures), f"{slowest:.2f} ({endpoint})"),
            *(watch.longest_lock, watch.longest_wait),
        )
        for failure in failures[:5]:
            tell(f"failed: {failure}")
        self.report.promise(not failures, f"{name}: {len(failures)} requests failed")
        self.report.at_most(watch.longest_lock, LOCK_SECONDS, f"{name}: seconds of {watch.locked}")
        self.report.at_most(
            watch.longest_wait, LOCK_SECONDS, f"{name}: seconds that callers waited for {watch.blocker}"
        )


async def drill(options: Namespace) -> bool:
    """Every step on one database; whether all promises were kept."""
    report = Report(COLUMNS)
    with temporary_folder("migrations") as folder:
        older, newer = Release("older", extract_older(folder / "older")), Release("newer", ROOT)
        async with prepared(folder, options.rows) as world:
            service_url = await serving_role(world.database_url)
            async with Fleet.started(folder, world, service_url, older) as fleet:
                random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
                traffic = Traffic(
                    *([fleet.url], EMAIL, PASSWORD),
                    metrics_token=METRICS_TOKEN,
                    random=random,
                    pace=PACE,
                    lists_a_second=LISTS_A_SECOND,
                )
                steps = Steps(report, traffic, world.database_url)
                with report.failures(fleet.logs):
                    reports = [read_reports(world.database_url, options.report_seconds, random) for _ in range(REPORTS)]
                    async with beside(traffic.run(), *reports):
                        await upgrade_and_roll_back(steps, fleet, older, newer)
                    for problem in await compare(world, traffic):
                        report.promise(kept=False, otherwise=problem)
                    said = await newer.run("provider-registration recount", world.database_url)
                    report.promise("The counts are right." in said, f"counts at the end: {said}")
    return report.show(
        f"{options.rows:,} candidates, {REPORTS} that read the table for {options.report_seconds:g} s again and again, "
        f"seed {options.seed}"
    )


async def upgrade_and_roll_back(steps: Steps, fleet: Fleet, older: Release, newer: Release) -> None:
    """Upgrade, roll back, and upgrade again, in the order that DEPLOYMENT.md has."""

    async def nothing() -> str:
        await asyncio.sleep(SETTLED_SECONDS)
        return ""

    owner_url = steps.owner_url
    up = f"provider-registration migrate --grant-to {SERVING_ROLE}"
    await steps.do("nothing, the older release serves", nothing())
    await steps.do("migrate 008 to head, the older release serves", newer.run(up, owner_url))
    await steps.do("replace the processes by the newer release", fleet.replace(newer))
    await steps.do("nothing, the newer release serves", nothing())
    await steps.do("replace the processes by the older release", fleet.replace(older))
    down = f"alembic downgrade {OLDER_SCHEMA}"
    await steps.do("downgrade head to 008, the older release serves", newer.run(down, owner_url))
    await steps.do("migrate 008 to head again, the older release serves", newer.run(up, owner_url))


@asynccontextmanager
async def prepared(folder: Path, rows: int) -> AsyncIterator[World]:
    """So many candidates in a database of the older release's schema; everything ends with the block."""
    async with AsyncExitStack() as stopping:
        cluster = PostgresCluster(folder)
        stopping.push_async_callback(cluster.stop)
        await cluster.start()
        fork_server = ForkServer(folder)
        stopping.callback(fork_server.close)
        world = await stopping.enter_async_context(World.open(fork_server, cluster, folder / "world"))
        url = world.database_url
        await asyncio.to_thread(migrations.downgrade, url, OLDER_SCHEMA)
        engine_url = DatabaseSettings(_env_file=None, database_url=url).database_url
        await load_demo_data(engine_url, rows, seed=1, progress=lambda _: None)
        tell(f"{rows:,} candidates are there")
        yield world


async def serving_role(owner_url: str) -> str:
    """Make the role that serves, with what it needs of the older schema; its URL."""
    password = secrets.token_hex(16)
    connection = await asyncpg.connect(owner_url)
    await connection.execute(f"CREATE ROLE {SERVING_ROLE} LOGIN PASSWORD '{password}'")
    await connection.close()
    await Release("newer", ROOT).run(
        f"provider-registration migrate --revision {OLDER_SCHEMA} --grant-to {SERVING_ROLE}", owner_url
    )
    parts = urlsplit(owner_url)
    return parts._replace(netloc=f"{SERVING_ROLE}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


async def read_reports(url: str, seconds: float, random: Random) -> None:
    """Read the table in long transactions, again and again, as reports and dumps do."""
    connection = await asyncpg.connect(url, server_settings={"application_name": "report"})
    try:
        while True:
            async with connection.transaction():
                await connection.execute("SELECT FROM candidates LIMIT 1")
                await connection.execute("SELECT pg_sleep($1::float8)", seconds)
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))
    finally:
        connection.terminate()


def extract_older(folder: Path) -> Path:
    """Take the last version before FIRST_NEWER_STEP out of the repository's history."""
    git = ["git", "-C", str(ROOT)]
    added = [*git, "log", "--diff-filter=A", "--format=%H", "--", FIRST_NEWER_STEP]
    commit = subprocess.run(added, capture_output=True, text=True, check=True).stdout.split()
    if not commit:
        sys.exit("The history with the release before is not here: this drill needs a full clone.")
    archive = subprocess.run([*git, "archive", f"{commit[-1]}^", "src"], capture_output=True, check=True).stdout
    folder.mkdir()
    subprocess.run(["/usr/bin/env", "tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Upgrade and roll back a release under traffic.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="candidates in the table (default: 1,000,000)")
    parser.add_argument("--report-seconds", type=float, default=3, help="that a long reader takes (3)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="repeats the choices of a run")
    options = parser.parse_args()
    need("nginx")
    run_to_end(drill(options))


if __name__ == "__main__":
    main()
