"""Run scenarios from a seed, and report the results."""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from .invariants import Findings
from .postgres_cluster import PostgresCluster
from .scenarios import SCENARIOS, Scenario
from .service_process import ForkServer
from .world import World

LANES = 4  # worlds in which scenarios run concurrently; they mostly wait
SHARE_BESIDE = 0.7  # share of the minutes; the rest is for scenarios that run alone
LONGEST_RUN = 900.0  # seconds
COLUMNS = ("runs", "failures", "duplicates", "orphans", "in doubt", "slowest recovery")


@dataclass
class Row:
    """The results of a group's runs."""

    runs: int = 0
    failures: int = 0
    findings: Findings = field(default_factory=Findings)


@asynccontextmanager
async def prepared_worlds(folder: Path, lanes: int) -> AsyncIterator[list[World]]:
    """Worlds on one PostgreSQL; everything that they started ends with the block."""
    async with AsyncExitStack() as stopping:
        cluster = PostgresCluster(folder)
        stopping.push_async_callback(cluster.stop)
        await cluster.start()
        fork_server = ForkServer(folder)
        stopping.callback(fork_server.close)
        yield [
            await stopping.enter_async_context(World.open(fork_server, cluster, folder / f"world-{lane}"))
            for lane in range(lanes)
        ]


class Suite:
    """Runs scenarios and keeps the table."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._scenarios = [one for one in SCENARIOS if _is_wanted(one, options.only)]
        self._rows = {scenario.group: Row() for scenario in self._scenarios}

    @property
    def names(self) -> list[str]:
        """The selected scenarios."""
        return [scenario.name for scenario in self._scenarios]

    async def run(self, folder: Path) -> bool:
        """Run everything, with files in a folder; return whether all succeeded."""
        beside = [one for one in self._scenarios if not one.alone]
        alone = [one for one in self._scenarios if one.alone]
        begun = time.monotonic()
        end = begun + 60 * (self._options.minutes or float("inf"))
        async with prepared_worlds(folder, LANES if beside else 1) as worlds:
            beside_end = begun + SHARE_BESIDE * (end - begun) if alone else end
            jobs = self._plan(beside)
            await asyncio.gather(*(self._work(world, jobs, beside_end) for world in worlds))
            await self._work(worlds[0], self._plan(alone), end)
        self._print_table(time.monotonic() - begun)
        return not any(row.failures for row in self._rows.values())

    def _plan(self, scenarios: list[Scenario]) -> Iterator[tuple[Scenario, int]]:
        """Each scenario once per round, up to its number of runs; a run is determined by its number and the seed."""
        options = self._options
        for index in count(options.first):
            done = index - options.first
            left = [one for one in scenarios if done < (options.trials or (one.runs if options.long else sys.maxsize))]
            if not left:
                return
            self._random("order", index).shuffle(left)
            yield from ((scenario, index) for scenario in left)

    async def _work(self, world: World, jobs: Iterator[tuple[Scenario, int]], end: float) -> None:
        for scenario, index in jobs:
            if time.monotonic() >= end:
                return
            await self._try(world, scenario, index)

    async def _try(self, world: World, scenario: Scenario, index: int) -> None:
        row = self._rows[scenario.group]
        row.runs += 1
        findings = Findings()
        try:
            async with asyncio.timeout(LONGEST_RUN):
                findings = await scenario.run(world, self._random(scenario.name, index))
                logs = world.logs()
                await world.clear()
        except Exception:  # noqa: BLE001 - whatever went wrong is this run's failure, and the others go on
            findings.problems.append(traceback.format_exc())
            logs = world.logs()
            await world.clear()
        row.findings.add(findings)
        if findings.problems:
            row.failures += 1
            again = self._again(scenario, index)
            self._tell(f"FAILED: {scenario.name}", *findings.problems, *logs, f"Again: {again}")
        elif self._options.verbose:
            self._tell(f"ok: {scenario.name}, run {index} {_listed(findings)}")

    def _random(self, what: str, index: int) -> Random:
        return Random(f"{self._options.seed} {what} {index}")  # noqa: S311 - to be repeated, not to be secret

    def _again(self, scenario: Scenario, index: int) -> str:
        command = ["python", "-m", "tests.programs.faults.run", "--seed", str(self._options.seed)]
        return shlex.join([*command, "--only", scenario.name, "--first", str(index), "--trials", "1"])

    def _print_table(self, seconds: float) -> None:
        self._tell("", f"seed {self._options.seed}, {seconds / 60:.1f} minutes", "")
        self._tell("| scenario | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS))
        for group, row in self._rows.items():
            found = row.findings
            cells = [row.runs, row.failures, found.duplicates, found.orphans, found.in_doubt]
            cells.append(f"{found.recovery_seconds:.1f} s")
            self._tell(f"| {group} | " + " | ".join(map(str, cells)) + " |")
        for group, row in self._rows.items():
            for what, worst in row.findings.measured.items():
                self._tell(f"{group}: {what}: {worst:.2f} at worst")
            if row.findings.counted:
                self._tell(f"{group}: {_listed(row.findings)}")

    def _tell(self, *lines: str) -> None:
        print(*lines, sep="\n", flush=True)  # noqa: T201 - what the command is for


def _listed(findings: Findings) -> str:
    return ", ".join(f"{number} {what}" for what, number in findings.counted.items())


def _is_wanted(scenario: Scenario, words: list[str]) -> bool:
    return not words or any(word in scenario.name for word in words)


def main() -> None:
    """Read the command line, run, and end with status 1 on failure."""
    parser = ArgumentParser(description="Check that approval creates exactly one provider, whatever fails.")
    parser.add_argument("--minutes", type=float, help="approximate duration (default: 10, unless numbers are given)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="repeats a run")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="scenarios whose name contains this")
    parser.add_argument("--trials", type=int, help="runs of each scenario")
    parser.add_argument("--first", type=int, default=0, help="number of the first run, to repeat a later one")
    parser.add_argument("--long", action="store_true", help="the full numbers, in about an hour")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--verbose", action="store_true", help="report each run")
    options = parser.parse_args()
    if options.minutes is None and not options.long and not options.trials:
        options.minutes = 10.0
    # The sandbox's messages about connections that are reset on purpose do not matter.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    suite = Suite(options)
    if options.list or not suite.names:
        print(*suite.names or ["No scenario has this name; --list shows all."], sep="\n")  # noqa: T201 - as above
        raise SystemExit(0 if options.list else 2)
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-faults-"))
    folder.chmod(0o755)  # for root, whose PostgreSQL runs as another account
    try:
        went_well = asyncio.run(suite.run(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(0 if went_well else 1)
