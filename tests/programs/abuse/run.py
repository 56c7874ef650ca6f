"""Attack the service as an anonymous client and measure the effect on others: `-m tests.programs.abuse.run`."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from provider_registration.local.postgres import PrivatePostgres

from .attacker import ATTACKS
from .stage import THROUGH_NGINX, WAYS, WITH_REDIS, Stage, staged
from .watch import Measured, Watch

ROOT = Path(__file__).parents[3]
LIVE_P99_SECONDS = 0.1
SIGN_IN_SECONDS = 2.0
MEMORY_MIB = 64
LEAVING_SECONDS = 10.0  # until all connections of finished attacks are closed
IDLE_SECONDS = 3.0
WARM_SIGN_INS = 16  # before memory is measured: each hashing thread keeps its peak memory
MAX_HELD = 100  # connections of one address
ONE_BY_ONE, *_ = ATTACKS
HOLDING = list(ATTACKS)[list(ATTACKS).index("silent connections") :]  # those that wait until the service closes them
FAULTS = ("500", "502", "504", "no answer")
NEVER_CLOSED = "held to the end"


@dataclass(frozen=True)
class Scale:
    """The size of attacks."""

    share: int = 1  # every n-th payload is sent alone
    crowd: int = 300
    times: int = 1200
    held_seconds: float = 100.0  # longer than any connection may stay open
    together: bool = False  # whether all attacks except the first run concurrently


FULL = Scale()
QUICK = Scale(share=23, crowd=25, times=25, held_seconds=1.5, together=True)


@dataclass
class Row:
    """One attack and its effects."""

    attack: str
    answers: Counter[str]
    costly: list[str]
    unanswered: list[str]
    measured: Measured
    waited: float  # the share of the time for which the service's event loop waited for a core
    memory: float  # MiB more than idle
    connections: int

    def faults(self, *, with_times: bool) -> list[str]:
        """The violations; without times on a machine that may stall."""
        found = [f"answers: {answer} × {self.answers[answer]}" for answer in FAULTS if self.answers[answer]]
        found += [f"honest callers: {what} × {times}" for what, times in self.measured.failures.items()]
        if with_times and self.answers[NEVER_CLOSED]:
            found.append(f"{self.answers[NEVER_CLOSED]} connections were not closed")
        found += [f"costly: {name}" for name in self.costly]
        found += [f"unanswered: {name}" for name in self.unanswered]
        if self.memory > MEMORY_MIB:
            found.append(f"{self.memory:.0f} MiB more than idle")
        if self.connections:
            found.append(f"{self.connections} connections are still open")
        if with_times and self.measured.live_p99 > LIVE_P99_SECONDS:
            found.append(f"/health/live took {1000 * self.measured.live_p99:.0f} ms at p99")
        if with_times and self.measured.slowest_sign_in > SIGN_IN_SECONDS:
            found.append(f"a sign-in took {self.measured.slowest_sign_in:.1f} s")
        return [f"{self.attack}: {each}" for each in found]

    def __str__(self) -> str:
        answers = ", ".join(f"{what} × {times:,}" for what, times in sorted(self.answers.items()))
        cells = (
            self.attack,
            f"{self.answers.total():,}",
            answers,
            f"{1000 * self.measured.live_p50:.0f} / {1000 * self.measured.live_p99:.0f} ms",
            f"{self.waited:.0%}",
            f"{self.measured.slowest_sign_in:.2f} s",
            f"{self.memory:+.0f} MiB",
            str(self.connections),
        )
        return f"| {' | '.join(cells)} |"


HEAD = """
| attack | requests | answers | `/health/live` p50 / p99 | no core | slowest sign-in | memory | connections left |
|---|---:|---|---:|---:|---:|---:|---:|"""


class Attacker:
    """The process that attacks one service."""

    def __init__(self, stage: Stage, scale: Scale, process: asyncio.subprocess.Process) -> None:
        self._stage = stage
        self._scale = scale
        self._process = process

    async def attack(self, names: Sequence[str]) -> dict[str, tuple[Counter[str], list[str], list[str]]]:
        """Run these attacks concurrently; return the responses, and the expensive and unanswered requests of each."""
        assert self._process.stdin
        assert self._process.stdout
        for name in names:
            self._process.stdin.write(json.dumps(self._order(name)).encode() + b"\n")
        results = [json.loads(await self._process.stdout.readline()) for _ in names]
        return {
            result["attack"]: (Counter(result["answers"]), result["costly"], result["unanswered"]) for result in results
        }

    def _order(self, name: str) -> dict[str, object]:
        return {
            "attack": name,
            "port": self._stage.port,
            "addresses": list(ATTACKS).index(name) + 1,
            "routes": self._stage.routes,
            "share": self._scale.share,
            "crowd": min(MAX_HELD, self._scale.crowd) if name in HOLDING else self._scale.crowd,
            "times": self._scale.times,
            "held_seconds": self._scale.held_seconds,
            "service_pid": self._stage.process.pid,
        }


@asynccontextmanager
async def attacker_of(stage: Stage, scale: Scale) -> AsyncIterator[Attacker]:
    """The process that attacks a service while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.programs.abuse.attacker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
        cwd=ROOT,
    )
    try:
        yield Attacker(stage, scale, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def attack_all(stage: Stage, scale: Scale, names: Sequence[str]) -> list[Row]:
    """Run each of these attacks, and report its effects."""
    watch = Watch(stage)
    await asyncio.gather(*(watch.sign_in(f"127.0.4.{host}") for host in range(1, WARM_SIGN_INS)))
    waiting = Waiting(stage)
    async with watch.watching() as measured:
        await asyncio.sleep(min(IDLE_SECONDS, scale.held_seconds))
    idle = stage.memory
    rows = [Row("(none)", Counter(), [], [], measured, waiting.share(), 0, stage.connections_of_strangers())]
    tell(str(rows[0]))
    groups = [[name] for name in names if name not in HOLDING] + [[name for name in names if name in HOLDING]]
    if scale.together:
        groups = [[ONE_BY_ONE], [name for name in names if name != ONE_BY_ONE]]
    async with attacker_of(stage, scale) as attacker:
        for together in filter(None, groups):
            waiting = Waiting(stage)
            async with watch.watching() as measured:
                results = await attacker.attack(together)
            waited = waiting.share()
            connections = await _connections_left(stage)
            for name in together:
                rows.append(Row(name, *results[name], measured, waited, stage.memory - idle, connections))
                tell(str(rows[-1]))
    return rows


class Waiting:
    """Measures how long a service's event loop waits for a core."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._began, self._waited = perf_counter(), stage.waited

    def share(self) -> float:
        """The share of the time since the start."""
        return (self._stage.waited - self._waited) / (perf_counter() - self._began)


async def _connections_left(stage: Stage) -> int:
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVING_SECONDS):
            while stage.connections_of_strangers():
                await asyncio.sleep(0.1)
    return stage.connections_of_strangers()


async def measure(
    folder: Path, scale: Scale, ways: Sequence[str], names: Sequence[str], *, with_times: bool
) -> list[str]:
    """All violations."""
    faults: list[str] = []
    for number, way in enumerate(ways):
        place = folder / str(number)
        place.mkdir(mode=0o755)
        postgres = PrivatePostgres(place / "postgres")
        try:
            url = await asyncio.to_thread(postgres.start)
            async with staged(url, place, way) as stage:
                tell(f"\n## {way.capitalize()}\n{HEAD}")
                rows = await attack_all(stage, scale, names)
        finally:
            await asyncio.to_thread(postgres.stop)
        faults += [f"{way}, {fault}" for row in rows for fault in row.faults(with_times=with_times)]
    return faults


def tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what the command is for


def main() -> None:
    """Read the command line, attack, and exit with status 1 on a violation."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few requests, without time limits")
    parser.add_argument("--way", action="append", choices=WAYS, help="how the service is reached; default: all ways")
    parser.add_argument("--only", action="append", metavar="WORDS", help="attacks whose name contains these words")
    options = parser.parse_args()
    names = [name for name in ATTACKS if not options.only or any(words in name for words in options.only)]
    ways = [way for way in options.way or WAYS if _is_installed(way)]
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-abuse-"))
    folder.chmod(0o755)  # for root, whose PostgreSQL runs as another account
    try:
        scale = QUICK if options.quick else FULL
        faults = asyncio.run(measure(folder, scale, ways, names, with_times=not options.quick))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tell("\n" + ("\n".join(f"- {fault}" for fault in faults) or "Every bound holds."))
    raise SystemExit(1 if faults else 0)


def _is_installed(way: str) -> bool:
    program = {WITH_REDIS: "redis-server", THROUGH_NGINX: "nginx"}.get(way)
    is_there = (
        program is None or shutil.which(program, path=f"{sys.path[0]}:/usr/sbin:/usr/bin:/usr/local/bin") is not None
    )
    if not is_there:
        tell(f"\n{program} is not installed; left out: {way}")
    return is_there


if __name__ == "__main__":
    main()
