"""Change clocks so that they differ by ten minutes, under traffic: `python -m tests.programs.drills.clocks --help`."""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from random import Random

from tests.clock import NOTICED_SECONDS, TEN_MINUTES, Clock
from tests.documents.markdown import ROOT
from tests.programs.faults.world import EMAIL, PASSWORD, Candidate, World

from .acknowledged import compare
from .fleet import Fleet, Release
from .postgres_program import started_instead
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .sessions import Sessions
from .stage import METRICS_TOKEN, prepared
from .traffic import Traffic

OLD_TOKEN = 25 * 60  # seconds; with ten minutes more, beyond the token lifetime of half an hour
BILLING_LATENCY = 400  # milliseconds
DEADLINE = "4"  # seconds; an approval's lease is 1.5 times as long
AT_ONCE = 8  # approvals in progress when a process is killed
FINISHED_SECONDS = 20.0
ENDED_SECONDS = 1.0
ENDED_MARGIN = 0.3  # to detect it
COLUMNS = (
    *("clocks", "requests", "failed", "valid tokens refused", "an ended session ends everywhere after, s"),
    *("approvals running at the kill", "finished after, s"),
)


@dataclass
class Drill:
    """Two processes and PostgreSQL, each with its own clock."""

    world: World
    fleet: Fleet
    release: Release
    traffic: Traffic
    sessions: Sessions
    clocks: tuple[Clock, Clock, Clock]  # of the processes, and of PostgreSQL
    report: Report
    seconds: float
    killed: float = 0.0

    async def go_through(self, name: str, *ahead: int) -> None:
        """Set the clocks this many seconds ahead, check everything, and add a row."""
        tell(name)
        self.traffic.forget_times()
        for clock, seconds in zip(self.clocks, ahead, strict=True):
            clock.set(seconds)
        await asyncio.sleep(NOTICED_SECONDS + self.seconds)
        refused = await self.sessions.refused()
        ended = await self.sessions.end_one()
        requests, failures = self.traffic.requests.total(), list(self.traffic.failures)
        under_way = await self.kill_one()
        finished = await self.until_finished(under_way, FINISHED_SECONDS)
        revived = await self.sessions.revived()
        self.report.add(name, requests, len(failures), len(refused), ended, len(under_way), finished)
        for failure in failures[:3]:
            self.report.promise(kept=False, otherwise=f"{name}: {failure}")
        self.report.promise(not refused, f"{name}: tokens refused: {refused}")
        self.report.promise(not revived, f"{name}: sessions that had ended go on: {revived}")
        self.report.at_most(ended, ENDED_SECONDS + ENDED_MARGIN, f"{name}: seconds until a session had ended")
        self.report.promise(finished is not None, f"{name}: approvals are unfinished")

    async def set_back_after_kill(self) -> None:
        """A lease taken before PostgreSQL's clock was set back counts as expired: it ends later than any lease can."""
        name = "PostgreSQL's set back ten minutes after the kill"
        tell(name)
        self.traffic.forget_times()
        requests, failures = self.traffic.requests, self.traffic.failures
        under_way = await self.kill_one()
        self.clocks[2].set(-TEN_MINUTES)
        finished = await self.until_finished(under_way, FINISHED_SECONDS)
        self.clocks[2].set(0)
        cell = "–" if finished is None else f"{finished:.2f}"
        self.report.add(name, requests.total(), len(failures), 0, "–", len(under_way), cell)
        self.report.promise(finished is not None, f"{name}: approvals are unfinished")

    async def tokens_expire(self) -> None:
        """A token is valid for half an hour by the clock of the process that verifies it."""
        for clock in self.clocks:
            clock.set(0)
        self.clocks[1].set(-OLD_TOKEN)
        await asyncio.sleep(NOTICED_SECONDS)
        tokens = await self.sessions.log_in(1)
        self.clocks[1].set(0)
        await asyncio.sleep(NOTICED_SECONDS)
        good = await self.sessions.is_good(0, tokens) and await self.sessions.is_good(1, tokens)
        self.report.promise(good, "a token of 25 minutes is refused")
        self.clocks[0].set(TEN_MINUTES)
        await asyncio.sleep(NOTICED_SECONDS)
        self.report.promise(not await self.sessions.is_good(0, tokens), "a token of 35 minutes is good")
        self.report.promise(await self.sessions.is_good(1, tokens), "a token of 25 minutes is refused by the other")
        refreshed = await self.sessions.refresh(0, tokens)
        self.report.promise(await self.sessions.is_good(0, refreshed), "the token after a refresh is refused")
        self.clocks[0].set(0)
        await asyncio.sleep(NOTICED_SECONDS)

    async def kill_one(self) -> list[Candidate]:
        """Kill the first process during approvals, and restart it; return its approvals."""
        candidates = await self.world.register(AT_ONCE)
        self.traffic.names |= {one.id: one.name for one in candidates}
        tokens = await self.sessions.log_in(0)
        asking = [asyncio.create_task(self.sessions.approve(0, tokens, str(one.id))) for one in candidates]
        await self.world.until_count("true", candidates, AT_ONCE, FINISHED_SECONDS)
        port = next(iter(self.fleet.processes))
        self.fleet.processes[port].kill()
        self.killed = time.monotonic()
        await asyncio.gather(*asking)
        self.fleet.processes[port] = self.fleet.start(port, self.release)
        await self.fleet.until_ready(port)
        return candidates

    async def until_finished(self, candidates: list[Candidate], seconds: float) -> float | None:
        """Seconds from the kill until all are approved; None: not yet."""
        try:
            await self.world.until_count("true", candidates, 0, seconds)
        except AssertionError:
            return None
        return time.monotonic() - self.killed


async def drill(options: Namespace) -> bool:
    """Run every combination of clocks; return whether all promises were kept."""
    report = Report(COLUMNS)
    random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
    release = Release("service", ROOT)
    with temporary_folder("clocks") as folder:
        clocks = tuple(Clock(folder / name) for name in ("one", "two", "postgresql"))
        async with prepared(folder) as world:
            async with started_instead(world.cluster, folder, world.database_url, clocks[2].environment):
                await world.billing.set(latency_ms=BILLING_LATENCY)
                own = [clock.environment for clock in clocks[:2]]
                async with Fleet.started(
                    folder, world, world.database_url, release, own, BILLING_DEADLINE_SECONDS=DEADLINE
                ) as fleet:
                    urls = [f"http://127.0.0.1:{port}" for port in fleet.processes]
                    traffic = Traffic(urls, EMAIL, PASSWORD, metrics_token=METRICS_TOKEN, random=random)
                    sessions = Sessions(urls, EMAIL, PASSWORD)
                    stage = Drill(world, fleet, release, traffic, sessions, clocks, report, options.seconds)
                    with report.failures(fleet.logs):
                        async with beside(traffic.run()):
                            await go_through_all(stage)
                        for problem in await compare(world, traffic):
                            report.promise(kept=False, otherwise=problem)
                    await sessions.close()
    kept = f"{len(traffic.registered):,} registrations and {len(traffic.approved):,} approvals were acknowledged"
    return report.show(f"{kept}, a lease of {1.5 * float(DEADLINE):g} s, seed {options.seed}")


async def go_through_all(stage: Drill) -> None:
    """All clocks ten minutes ahead and behind, and two processes ten minutes apart."""
    ahead, behind = TEN_MINUTES, -TEN_MINUTES
    await stage.go_through("correct", 0, 0, 0)
    await stage.go_through("the service's ten minutes ahead", ahead, ahead, 0)
    await stage.go_through("the service's ten minutes behind", behind, behind, 0)
    await stage.go_through("one process ten minutes ahead of the other", ahead, 0, 0)
    await stage.go_through("one process ten minutes behind the other", behind, 0, 0)
    await stage.go_through("PostgreSQL's set ten minutes ahead", 0, 0, ahead)
    await stage.go_through("PostgreSQL's corrected, ten minutes back", 0, 0, 0)
    await stage.go_through("PostgreSQL's set ten minutes back", 0, 0, behind)
    await stage.go_through("PostgreSQL's corrected, ten minutes forward", 0, 0, 0)
    await stage.set_back_after_kill()
    await stage.tokens_expire()


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Set clocks ten minutes ahead and back, under traffic.")
    parser.add_argument("--seconds", type=float, default=10, help="of traffic with each setting (10)")
    run_drill(drill, parser, "nginx", "faketime")


if __name__ == "__main__":
    main()
