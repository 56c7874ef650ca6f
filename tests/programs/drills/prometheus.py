"""A real Prometheus with the shipped configuration and rules, and what its alerts do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.operations.deployed import config
from tests.ports import a_port

from .programs import Program

STARTED_SECONDS = 60.0
POLL = 0.5


class Alerts:
    """The alerts of a Prometheus."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def states(self) -> dict[str, set[str]]:
        """`pending` or `firing` of every alert that is either, by its name and, where it has one, its status code."""
        found: dict[str, set[str]] = {}
        for alert in (await self._client.get("/api/v1/alerts")).raise_for_status().json()["data"]["alerts"]:
            labels = alert["labels"]
            name = " ".join(filter(None, (labels["alertname"], labels.get("status_code"))))
            found.setdefault(name.removeprefix("ProviderRegistration"), set()).add(alert["state"])
        return found

    async def until(self, name: str, states: set[str], seconds: float) -> float:
        """Wait until an alert is in one of the states, or in none if `states` is empty; return the seconds it took."""
        begun = time.monotonic()
        while True:
            now = (await self.states()).get(name, set())
            if now & states or now == states:
                return time.monotonic() - begun
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"{name} is {now or 'silent'} after {seconds:.0f} s")
            await asyncio.sleep(POLL)

    async def stays_silent(self, name: str, seconds: float) -> None:
        """Check that an alert does not fire."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            assert "firing" not in (await self.states()).get(name, set()), f"{name} fires"
            await asyncio.sleep(POLL)


@asynccontextmanager
async def watching(folder: Path, targets: list[str], token: str, **options: object) -> AsyncIterator[Alerts]:
    """Scrape the targets while the block runs, as shipped, every 15 s; `options` are those of `config`."""
    await asyncio.to_thread(folder.mkdir)
    (folder / "token").write_text(token)
    (folder / "prometheus.yml").write_text(config(folder / "token", targets, **options))
    address = f"127.0.0.1:{a_port()}"
    flags = ("config.file=prometheus.yml", "storage.tsdb.path=data", f"web.listen-address={address}")
    program = Program(["prometheus", *(f"--{flag}" for flag in flags)], folder / "log")
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30, trust_env=False) as client:
            async with asyncio.timeout(STARTED_SECONDS):
                while not await _is_ready(client):
                    assert program.is_alive, program.tail()
                    await asyncio.sleep(POLL)
            yield Alerts(client)
    finally:
        program.stop()


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).is_success
    except httpx.TransportError:
        return False
