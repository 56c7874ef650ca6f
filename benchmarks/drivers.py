"""Send requests: with wrk to measure, with httpx to check responses and to run where wrk is missing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from statistics import quantiles
from typing import Protocol

import httpx

from benchmarks.contenders import Running
from benchmarks.processes import NO_TLS
from benchmarks.scenarios import Scenario

SCRIPT = Path(__file__).parent / "run.lua"
MARGIN = 30.0  # seconds that wrk may take beyond its duration
LEAST_FOR_QUANTILES = 2


class BadAnswer(Exception):
    """A contender's response is wrong, so its figures would mean nothing."""


@dataclass(frozen=True)
class Sample:
    """What one run measured; times of a request in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Load:
    """What to send: a method and paths, or registrations whose addresses have `word` in them."""

    scenario: Scenario
    paths: Sequence[str]
    word: str = ""

    @property
    def method(self) -> str:
        """The method of every request."""
        return "POST" if self.scenario.writes else "GET"

    def tokens(self, running: Running) -> list[str]:
        """The tokens that requests have in turn; none if they need none."""
        return [] if self.scenario.is_public else running.tokens()


class Driver(Protocol):
    """Sends a load over a number of connections for a number of seconds."""

    async def run(self, running: Running, load: Load, *, seconds: float) -> Sample:
        """Send it; every response must be successful."""
        ...


LONGEST = 20.0  # seconds for one response
NETWORKS = 250  # of the senders of registrations: each run has another


class Wrk:
    """The wrk of Debian, one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = count()

    async def run(self, running: Running, load: Load, *, seconds: float) -> Sample:
        """Send it; wrk counts responses from 400 on as errors."""
        scenario = load.scenario
        arguments = ["register", load.word, str(next(self._runs) % NETWORKS)]
        if load.paths:
            file = self._folder / "paths"
            file.write_text("".join(f"{load.method} {path}\n" for path in load.paths))
            arguments = ["walk", str(file)]
        tokens = self._folder / "tokens"
        tokens.write_text("".join(f"{token}\n" for token in load.tokens(running)))
        command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        command += ["-s", str(SCRIPT), running.url, "--", str(tokens), *arguments]
        if scenario.body:
            command.append(scenario.body)
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds + MARGIN)
        except BaseException:
            process.kill()
            raise
        told = output.decode().strip().splitlines()
        try:
            found = json.loads(told[-1])
        except (ValueError, IndexError):
            raise BadAnswer(f"wrk failed: {told}") from None
        refused, broken = found.pop("refused"), found.pop("broken")
        if not (refused or broken or found["requests"]) and seconds < LONGEST:
            return await self.run(running, load, seconds=LONGEST)  # it is that slow
        if refused or broken or not found["requests"]:
            raise BadAnswer(
                f"{running.contender.name}, {scenario.title}: of {found['requests']} answers {refused} were errors, "
                f"and {broken} connections failed (at most {len(load.paths)} different requests)"
            )
        return Sample(**found)


class Httpx:
    """A few coroutines: slow, but every response is checked."""

    async def run(self, running: Running, load: Load, *, seconds: float) -> Sample:
        """Send it; every status must be the scenario's."""
        numbers, paths, times = count(1), cycle(load.paths or ["/candidates"]), []
        tokens = cycle(load.tokens(running) or [""])
        until = time.perf_counter() + seconds
        decisions_left = len(load.paths) if load.scenario.decision else -1

        async def call(client: httpx.AsyncClient) -> None:
            nonlocal decisions_left
            while (not times or time.perf_counter() < until) and decisions_left:
                decisions_left -= 1
                begun = time.perf_counter()
                await _send(client, load, next(paths), next(numbers), next(tokens))
                times.append(1000 * (time.perf_counter() - begun))

        begun = time.perf_counter()
        async with _client(running) as client:
            await asyncio.gather(*(call(client) for _ in range(load.scenario.connections)))
        taken = time.perf_counter() - begun
        cuts = quantiles(times, n=100) if len(times) >= LEAST_FOR_QUANTILES else times * 99
        return Sample(len(times), taken, cuts[49], cuts[94], cuts[98])


def _client(running: Running) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    return httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False, limits=limits, verify=NO_TLS)


def _headers(*, token: str, content: str | None, sender: int = 0) -> dict[str, str]:
    headers = {"X-Forwarded-For": f"192.0.2.{sender % NETWORKS}"}
    if content:
        headers["Content-Type"] = "application/json"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


async def _send(client: httpx.AsyncClient, load: Load, path: str, number: int, token: str) -> httpx.Response:
    scenario = load.scenario
    content = scenario.body.replace("UNIQUE", f"{load.word}-{number}") if scenario.body else None
    headers = _headers(token=token, content=content, sender=number)
    response = await client.request(load.method, path, content=content, headers=headers)
    if response.status_code != scenario.status:
        raise BadAnswer(f"{client.base_url}: {load.method} {path}: {response.status_code} {response.text[:500]}")
    return response


async def check(running: Running, load: Load) -> None:
    """See that a contender answers as it must: status, fields, and what is refused.

    Raises:
        BadAnswer: it does not.
    """
    scenario = load.scenario
    async with _client(running) as client:
        path = load.paths[0] if load.paths else "/candidates"
        tokens = load.tokens(running)
        token = tokens[0] if tokens else ""
        response = await _send(client, load, path, 0, token)
        missing = scenario.fields - set(response.json())
        if missing:
            raise BadAnswer(f"{running.contender.name}, {path}: no {', '.join(sorted(missing))} in {response.text}")
        if absent := [name for name in running.contender.headers if name not in response.headers]:
            raise BadAnswer(f"{running.contender.name}, {path}: no {', '.join(absent)} in the head")
        if scenario.writes:
            content = (scenario.body or "").replace("UNIQUE", f"{load.word}-0".upper()).replace("bench-", "BENCH-")
            headers = _headers(token=token, content=content, sender=1)
            again = await client.post(path, content=content or None, headers=headers)
            if again.status_code != scenario.repeated:
                raise BadAnswer(f"{running.contender.name}, {path} once more: {again.status_code} {again.text[:500]}")
        if path.startswith("/candidates") and token:
            stranger = await client.request(load.method, path, headers={"Authorization": "Bearer made.up.token"})
            if stranger.status_code != httpx.codes.UNAUTHORIZED:
                raise BadAnswer(f"{running.contender.name}, {path} for a stranger: {stranger.status_code}")
