"""Destroy the database under traffic and restore it as OPERATIONS.md says: `-m tests.programs.drills.restore`."""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from provider_registration.local.demo_data import load_demo_data
from provider_registration.settings import DatabaseSettings
from tests.programs.faults.service_process import ForkServer
from tests.programs.faults.world import EMAIL, PASSWORD, World

from .acknowledged import lost_writes
from .aftermath import Aftermath
from .debian_cluster import DebianCluster, documented_restore
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .stage import METRICS_TOKEN, as_in_production
from .traffic import Traffic

LOST_SECONDS = 60.0  # of writes, at most
BACK_SECONDS = 15 * 60.0
BILLING_LATENCY = 300  # milliseconds, so that approvals are always in progress
AFTER_SECONDS = 8.0  # of traffic once it is back
ACCIDENT = "DROP TABLE approval_events"
COLUMNS = (
    *(
        "restored to",
        "billing",
        "acknowledged before",
        "of them lost",
        "seconds of writes lost",
        "responding again after, s",
    ),
    *("approvals swept", "in doubt, linked", "approved again", "registered again"),
    *("duplicate providers", "counts"),
)


@dataclass(frozen=True)
class Run:
    """One data loss: without `to_a_moment` the data folder, with it a dropped table."""

    honours_keys: bool
    to_a_moment: bool

    @property
    def names(self) -> tuple[str, str]:
        """Its name in the table."""
        return (
            "a chosen time" if self.to_a_moment else "the latest state",
            "keys honoured" if self.honours_keys else "keys ignored",
        )


RUNS = [Run(honours_keys=keys, to_a_moment=moment) for moment in (False, True) for keys in (True, False)]


async def drill(options: Namespace) -> bool:
    """Run everything on one database; return whether all promises were kept."""
    report = Report(COLUMNS)
    with temporary_folder("restore") as folder:
        async with prepared(folder, options.rows) as (cluster, world):
            for number, run in enumerate(RUNS[: options.runs]):
                tell(f"run {number + 1}: to {', '.join(run.names)}")
                random = Random(options.seed + number)  # noqa: S311 - to be repeated, not to be secret
                with report.failures(world.logs):
                    await destroy_and_restore(cluster, world, run, report, random, options)
                await world.clear()
    return report.show(f"{options.rows:,} candidates, seed {options.seed}")


@asynccontextmanager
async def prepared(folder: Path, rows: int) -> AsyncIterator[tuple[DebianCluster, World]]:
    """A cluster with this many candidates and a backup; removed after the block."""
    async with AsyncExitStack() as stopping:
        cluster = DebianCluster(folder)
        stopping.callback(cluster.remove)
        await cluster.create()
        fork_server = ForkServer(folder)
        stopping.callback(fork_server.close)
        world = await stopping.enter_async_context(World.open(fork_server, cluster, folder / "world"))
        url = DatabaseSettings(_env_file=None, database_url=cluster.url).database_url
        await load_demo_data(url, rows, seed=1, progress=lambda _: None)
        tell(f"{rows:,} candidates are there")
        begun = time.monotonic()
        await cluster.back_up()
        tell(f"a full backup took {time.monotonic() - begun:.0f} s")
        yield cluster, world


async def destroy_and_restore(
    cluster: DebianCluster, world: World, run: Run, report: Report, random: Random, options: Namespace
) -> None:
    """Traffic, data loss, restore, repair, and a row of the table."""
    await world.billing.recover()
    await world.billing.set(honour_idempotency_key=run.honours_keys, latency_ms=BILLING_LATENCY)
    replica = await world.start(**as_in_production())
    traffic = Traffic([replica.url], EMAIL, PASSWORD, metrics_token=METRICS_TOKEN, random=random)
    async with beside(traffic.run()):
        await asyncio.sleep(options.seconds * random.uniform(0.7, 1.3))
        moment = datetime.now(UTC)
        if run.to_a_moment:
            await asyncio.sleep(3)
            await cluster.execute(ACCIDENT)
            await asyncio.sleep(1)
        else:
            cluster.destroy()
        destroyed = time.time()
        await cluster.restore(moment.isoformat(sep=" ") if run.to_a_moment else None)
        await cluster.until_writable()
        async with asyncio.timeout(BACK_SECONDS):
            while (answering := traffic.writing_again_after(destroyed)) is None:
                await asyncio.sleep(0.1)
        await asyncio.sleep(AFTER_SECONDS)

    meant = moment.timestamp() if run.to_a_moment else destroyed
    lost = [one.at for one in await lost_writes(world, traffic) if one.at <= meant]
    lost_seconds = meant - min(lost, default=meant)
    before = sum(one.at <= meant for one in [*traffic.registered.values(), *traffic.approved.values()])
    aftermath = Aftermath(world, cluster, replica, traffic, honours_keys=run.honours_keys, destroyed=destroyed)
    await aftermath.set_right()
    findings = await aftermath.examine()
    counts = await recount(cluster)
    report.add(
        *run.names,
        *(before, len(lost), lost_seconds, answering - destroyed),
        *(aftermath.swept, aftermath.linked, aftermath.approved_again, aftermath.registered_again),
        *(findings.duplicates, "correct" if counts == "The counts are correct." else counts),
    )
    where = f"to {run.names[0]}, {run.names[1]}"
    report.at_most(lost_seconds, LOST_SECONDS, f"seconds of writes lost, restored {where}")
    report.at_most(answering - destroyed, BACK_SECONDS, f"seconds until it answered again, restored {where}")
    report.promise(counts == "The counts are correct.", f"counts after a restore {where}: {counts}")
    for problem in findings.problems:
        report.promise(kept=False, otherwise=f"restored {where}: {problem}")
    await world.stop(replica)
    await cluster.back_up()


async def recount(cluster: DebianCluster) -> str:
    """The output of the documented command."""
    _newest, _to_a_moment, command, *_others = documented_restore()
    return (await cluster.command_line(command)).strip()


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Destroy the database under traffic and restore it, as OPERATIONS.md says.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="candidates in the table (default: 1,000,000)")
    parser.add_argument("--seconds", type=float, default=60, help="of traffic before the destruction, about (60)")
    parser.add_argument("--runs", type=int, default=len(RUNS), help="number of runs")
    run_drill(drill, parser, "pg_createcluster", "pgbackrest")


if __name__ == "__main__":
    main()
