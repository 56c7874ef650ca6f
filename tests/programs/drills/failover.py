"""Kill the primary under traffic, again and again: `python -m tests.programs.drills.failover --help`."""

from __future__ import annotations

import asyncio
import logging
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

from tests.documents.markdown import ROOT
from tests.programs.faults.service_process import ForkServer
from tests.programs.faults.world import EMAIL, PASSWORD, World

from .acknowledged import compare
from .fleet import Fleet, Release
from .patroni import PatroniCluster
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .stage import METRICS_TOKEN
from .traffic import Traffic

WRITING_SECONDS = 30.0
GIVEN_UP_SECONDS = 180.0
# 502: a waiting approval. A missing candidate or an unexpected error would be a violation.
OUTAGE = (502, 503)
BILLING_LATENCY = 50  # milliseconds
CALM_SECONDS = 6.0  # of traffic between two kills
COLUMNS = (
    *("kill", "what", "server", "primary then", "writes again after, s", "failed requests", "slowest, s"),
    "back by itself",
)
MACHINE, POSTGRESQL, HANG = "the machine", "PostgreSQL alone", "the machine hangs"
KINDS = (MACHINE, POSTGRESQL, HANG, MACHINE)


async def drill(options: Namespace) -> bool:
    """Kill this many times; return whether all promises were kept."""
    report = Report(COLUMNS)
    with temporary_folder("failover") as folder:
        async with prepared(folder) as (cluster, world):
            release = Release("service", ROOT)
            async with Fleet.started(folder, world, cluster.url, release, DATABASE_READ_URL=cluster.read_url) as fleet:
                random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
                traffic = Traffic([fleet.url], EMAIL, PASSWORD, metrics_token=METRICS_TOKEN, random=random)
                with report.failures(lambda: [*fleet.logs(), *cluster.logs()]):
                    async with beside(traffic.run()):
                        for number in range(options.kills):
                            await asyncio.sleep(CALM_SECONDS * random.uniform(0.5, 1.5))
                            await kill(number + 1, KINDS[number % len(KINDS)], cluster, traffic, report)
                        await asyncio.sleep(CALM_SECONDS)
                    problems = await compare(world, traffic)
                    said = await release.run("provider-registration recount", cluster.url)
                    report.promise("The counts are correct." in said, f"counts at the end: {said}")
                    for problem in problems:
                        report.promise(kept=False, otherwise=problem)
    kept = f"{len(traffic.registered):,} registrations and {len(traffic.approved):,} approvals were acknowledged"
    return report.show(f"{kept}, seed {options.seed}")


@asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[tuple[PatroniCluster, World]]:
    """A cluster with the service's database, and billing; everything ends with the block."""
    async with AsyncExitStack() as stopping:
        cluster = PatroniCluster(folder)
        stopping.push_async_callback(cluster.stop)
        await cluster.start()
        tell("a primary, and two that follow it, are there")
        fork_server = ForkServer(folder)
        stopping.callback(fork_server.close)
        world = await stopping.enter_async_context(World.open(fork_server, cluster, folder / "world"))
        await world.billing.set(latency_ms=BILLING_LATENCY)
        yield cluster, world


async def kill(number: int, kind: str, cluster: PatroniCluster, traffic: Traffic, report: Report) -> None:
    """Kill the primary, wait until writes succeed again, bring the server back, and add a row."""
    victim = await cluster.primary()
    traffic.forget_times()
    killed = time.time()
    {MACHINE: victim.kill, POSTGRESQL: victim.kill_postgres, HANG: victim.stop_all}[kind]()
    writing = await until_writing(traffic, killed)
    successor = await cluster.primary()
    if kind == HANG:
        victim.kill()  # an operator restarts it
    copied = await cluster.rejoin(victim)
    writing = await until_writing(traffic, killed)  # requests in between count too
    failures = traffic.failures
    cells = (number, kind, victim.name, successor.name, writing, len(failures), traffic.slowest_request[0])
    report.add(*cells, "no" if copied else "yes")
    statuses = Counter(failure.status for failure in failures)
    slowest, endpoint = traffic.slowest_request
    tell(
        f"kill {number}: {kind}, {victim.name} → {successor.name}, writes after {writing:.1f} s, "
        f"failed: {dict(statuses)}, slowest: {endpoint} in {slowest:.1f} s"
    )
    report.at_most(writing, WRITING_SECONDS, f"kill {number} ({kind}): seconds until writes were answered")
    for failure in [one for one in failures if one.status not in OUTAGE][:3]:
        report.promise(kept=False, otherwise=f"kill {number} ({kind}): more than an outage: {failure}")


async def until_writing(traffic: Traffic, killed: float) -> float:
    """Wait until registrations succeed permanently again; return the seconds since the kill."""
    async with asyncio.timeout(GIVEN_UP_SECONDS):
        while (writing := traffic.writing_again_after(killed)) is None:
            await asyncio.sleep(0.1)
    return writing - killed


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Kill the primary of a Patroni cluster repeatedly, under traffic.")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (20)")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run_drill(drill, parser, "pg_createcluster", "patroni", "patronictl", "etcd", "haproxy", "nginx")


if __name__ == "__main__":
    main()
