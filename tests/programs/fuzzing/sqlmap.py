"""Let sqlmap try to inject SQL into every parameter of the service: `-m tests.programs.fuzzing.sqlmap`."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
import tempfile
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import httpx

from .fuzzer import ROLES
from .injection_points import InjectionPoint, injection_points
from .stage import Stage, staged

SIDE_BY_SIDE = 2  # sqlmaps
LONGEST = 180.0  # seconds for one parameter
REQUEST_NUMBER = re.compile(r"^HTTP request \[#(\d+)\]", re.MULTILINE)
RESISTED = "all tested parameters do not appear to be injectable"
FELL = "sqlmap identified the following injection point"


@dataclass(frozen=True)
class Outcome:
    """The result of a parameter."""

    role: str
    point: InjectionPoint
    requests: int
    verdict: str

    @property
    def is_good(self) -> bool:
        """Whether sqlmap tried everything and found nothing."""
        return self.verdict == "resisted"


class Attack:
    """Tries one parameter after another."""

    def __init__(self, stage: Stage, folder: Path, options: Namespace) -> None:
        self._stage = stage
        self._folder = folder
        self._options = options
        self._end = time.monotonic() + 60 * options.minutes
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        """Test every selected parameter, with every role."""
        jobs = iter([(role, point) for point in await self._points() for role in ROLES])

        async def work() -> None:
            for role, point in jobs:
                outcome = await self._try(role, point)
                self.outcomes.append(outcome)
                tell(f"| {role} | {point.operation} | {point.parameter} | {outcome.requests:,} | {outcome.verdict} |")

        tell("| as | operation | parameter | requests | outcome |", "|---|---|---|---:|---|")
        await asyncio.gather(*(work() for _ in range(SIDE_BY_SIDE)))

    async def _points(self) -> list[InjectionPoint]:
        headers = {"Authorization": f"Bearer {await self._stage.token()}"}
        async with httpx.AsyncClient(base_url=self._stage.url, headers=headers, trust_env=False) as client:
            document = (await client.get("/openapi.json")).raise_for_status().json()
            [candidate, *_] = (await client.get("/candidates")).raise_for_status().json()["candidates"]
        points = injection_points(document, {"candidate_id": candidate["candidate_id"]})
        return [point for point in points if not self._options.only or self._options.only in point.name]

    async def _try(self, role: str, point: InjectionPoint) -> Outcome:
        seconds = min(LONGEST, self._end - time.monotonic())
        if seconds <= 0:
            return Outcome(role, point, 0, "not tested: out of time")
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        traffic = folder / "traffic"
        process = await asyncio.create_subprocess_exec(
            *("sqlmap", "--batch", "--flush-session", "--disable-coloring", "--skip-waf", "--dbms=PostgreSQL"),
            *(f"--level={self._options.level}", f"--risk={self._options.risk}"),
            "--ignore-code=401",  # sqlmap would stop; here it is the response to a wrong password
            *("--threads=2", "--timeout=20", "--retries=1", "--answers=keep testing=N"),
            *(f"--output-dir={folder}", "-t", traffic),
            *(f"--url={self._stage.url}{point.path}", f"--method={point.method}"),
            *([] if point.body is None else [f"--data={point.body}"]),
            *(f"--header={name}: {value}" for name, value in (await self._headers(role, point)).items()),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            return Outcome(role, point, _requests(traffic), f"not finished in {seconds:.0f} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = output.decode(errors="replace")
        if FELL in text or RESISTED not in text:
            tell(text)
        verdict = "INJECTABLE" if FELL in text else "resisted" if RESISTED in text else "sqlmap failed"
        return Outcome(role, point, _requests(traffic), verdict)

    async def _headers(self, role: str, point: InjectionPoint) -> dict[str, str]:
        token = {"Authorization": f"Bearer {await self._stage.token()}"} if role == "admin" else {}
        return token | point.headers


def _requests(traffic: Path) -> int:
    numbers = REQUEST_NUMBER.findall(traffic.read_text(errors="replace")) if traffic.exists() else []
    return int(numbers[-1]) if numbers else 0


async def attack(options: Namespace) -> bool:
    """Start the service, attack it and stop it; whether every parameter resisted."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    begun = time.monotonic()
    async with staged() as stage:
        with tempfile.TemporaryDirectory(prefix="provider-registration-sqlmap-") as folder:
            attack = Attack(stage, Path(folder), options)
            await attack.run()
    bad = [outcome for outcome in attack.outcomes if not outcome.is_good]
    requests = sum(outcome.requests for outcome in attack.outcomes)
    minutes = (time.monotonic() - begun) / 60
    tell("", f"{len(attack.outcomes)} tried, {requests:,} requests, {len(bad)} not well, {minutes:.1f} minutes")
    return bool(attack.outcomes) and not bad


def tell(*lines: str) -> None:
    """Print lines at once."""
    print(*lines, sep="\n", flush=True)  # noqa: T201 - what the command is for


def main() -> None:
    """Read the command line, attack, and end with status 1 when anything is injectable or was not tried."""
    parser = ArgumentParser(description="Run sqlmap against every parameter, as an admin and as anonymous.")
    parser.add_argument("--minutes", type=float, default=20.0, help="time limit; an unfinished test is a failure")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help='parameters whose name contains this: "POST /candidates"'
    )
    parser.add_argument("--level", type=int, default=3, help="sqlmap's level, 1 to 5: number of variations")
    parser.add_argument("--risk", type=int, default=1, help="sqlmap's risk, 1 to 3: 2 adds heavy queries, 3 writes")
    options = parser.parse_args()
    if shutil.which("sqlmap") is None:
        parser.exit(2, "This needs sqlmap, which is not installed (Debian, Ubuntu: apt install sqlmap).\n")
    logging.basicConfig(level=logging.ERROR)  # only errors of the service; refusals are expected here
    raise SystemExit(0 if asyncio.run(attack(options)) else 1)


if __name__ == "__main__":
    main()
