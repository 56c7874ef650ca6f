"""A replica that falls behind, hangs and dies under traffic: `python -m tests.programs.drills.replica_lag --help`."""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable
from random import Random

from tests.documents.markdown import ROOT
from tests.programs.faults.world import EMAIL, PASSWORD

from .acknowledged import compare
from .fleet import Fleet, Release
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .stage import METRICS_TOKEN, prepared
from .standby import Standby
from .traffic import Traffic
from .watchers import Watchers

SETTLED_SECONDS = 5.0  # until the first connections are open
DELAY_SECONDS = 3.0
CAUGHT_UP_SECONDS = 10.0
# A replica that did not respond is skipped for a while, and then used by the next read.
BACK_SECONDS = 20.0
COLUMNS = (
    *("replica", "reached after, s", "requests", "failed", "slowest, s", "reads after a decision", "missed"),
    *("lists of the other process", "of them behind", "longest, s"),
)


class Phases:
    """What happens to the replica, each phase under traffic."""

    def __init__(self, report: Report, traffic: Traffic, watchers: Watchers, seconds: float) -> None:
        self._report = report
        self._traffic = traffic
        self._watchers = watchers
        self._seconds = seconds

    async def go_through(self, name: str, work: Awaitable[object] | None = None, *, within: float = 0.0) -> None:
        """Run the phase, continue the traffic for a while, and add a row."""
        tell(name)
        self._traffic.forget_times()
        self._watchers.forget()
        begun = time.monotonic()
        if work is not None:
            await work
        took = time.monotonic() - begun
        await asyncio.sleep(self._seconds)
        watchers, failures = self._watchers, [*self._traffic.failures, *self._watchers.failures]
        slowest, endpoint = max(self._traffic.slowest_request, self._watchers.slowest_request)
        self._report.add(
            *(name, took, self._traffic.requests.total() + watchers.requests.total(), len(failures)),
            *(f"{slowest:.2f} ({endpoint})", watchers.looked, len(watchers.missed)),
            *(watchers.looked_elsewhere, watchers.behind, watchers.longest_behind),
        )
        for failure in failures[:3]:
            tell(f"failed: {failure}")
        self._report.promise(not failures, f"{name}: {len(failures)} requests failed")
        self._report.promise(not watchers.missed, f"{name}: {watchers.missed[:3]}")
        if within:
            self._report.at_most(took, within, f"{name}: seconds until it was so")


async def drill(options: Namespace) -> bool:
    """Run every phase; return whether all promises were kept."""
    report = Report(COLUMNS)
    random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
    with temporary_folder("replica") as folder:
        async with prepared(folder) as world:
            standby = Standby(folder, world.database_url)
            try:
                await standby.create()
                release, url = Release("service", ROOT), world.database_url
                async with Fleet.started(folder, world, url, release, DATABASE_READ_URL=standby.url) as fleet:
                    urls = [f"http://127.0.0.1:{port}" for port in fleet.processes]
                    # The other process decides nothing: its lists are as old as the replica.
                    traffic = Traffic(urls[:1], EMAIL, PASSWORD, metrics_token=METRICS_TOKEN, random=random)
                    watchers = Watchers(urls, EMAIL, PASSWORD, random)
                    with report.failures(fleet.logs):
                        async with beside(traffic.run(), watchers.run()):
                            await asyncio.sleep(SETTLED_SECONDS)
                            await go_through_all(Phases(report, traffic, watchers, options.seconds), standby)
                        for problem in await compare(world, traffic):
                            report.promise(kept=False, otherwise=problem)
            finally:
                standby.server.kill()
    return report.show(f"two processes, one replica, {options.seconds:g} s each, seed {options.seed}")


async def go_through_all(phases: Phases, standby: Standby) -> None:
    """Everything that may happen to a replica."""
    await phases.go_through("follows")
    await phases.go_through("replays nothing", standby.pause())
    await phases.go_through("replays again", resume(standby), within=CAUGHT_UP_SECONDS)
    await phases.go_through(f"is {DELAY_SECONDS:g} s behind", standby.delay(DELAY_SECONDS))
    await phases.go_through("has caught up", no_delay(standby), within=CAUGHT_UP_SECONDS + DELAY_SECONDS)
    await phases.go_through("hangs", hang(standby))
    await phases.go_through("continues, until it is tried again", go_on(standby), within=BACK_SECONDS)
    await phases.go_through("is killed", kill(standby))
    await phases.go_through("is started, until it is tried again", start(standby), within=BACK_SECONDS)


async def resume(standby: Standby) -> None:
    """Replay the pending WAL."""
    await standby.resume()
    await standby.until_caught_up()


async def no_delay(standby: Standby) -> None:
    """Replay at once again."""
    await standby.delay(0)
    await standby.until_caught_up()


async def hang(standby: Standby) -> None:
    """Suspend it."""
    standby.server.hang()


async def go_on(standby: Standby) -> None:
    """Resume it."""
    standby.server.go_on()
    await standby.until_asked()


async def kill(standby: Standby) -> None:
    """Kill it."""
    standby.server.kill()


async def start(standby: Standby) -> None:
    """Restart it."""
    await standby.start()
    await standby.until_asked()


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Delay, hang and kill the read replica, under traffic.")
    parser.add_argument("--seconds", type=float, default=20, help="of traffic in each phase (20)")
    run_drill(drill, parser, "nginx")


if __name__ == "__main__":
    main()
