"""Two processes of the service behind nginx, of one release or another, replaced as DEPLOYMENT.md says."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from provider_registration.local.accounts import Account
from tests.ports import a_port
from tests.programs.faults.world import World

from .gateway import Gateway
from .programs import PATH, Program, shell
from .stage import as_in_production

PROCESSES = 2
READY_SECONDS = 60.0
LEFT_OUT_SECONDS = 1.0  # nginx takes a moment to read its file again
COMMANDS = f"{Path(sys.executable).parent}:{PATH}"


@dataclass(frozen=True)
class Release:
    """The sources of one version; what it needs is installed."""

    name: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return {"PATH": COMMANDS, "PYTHONPATH": str(self.folder / "src")}

    async def run(self, command: str, database_url: str) -> str:
        """Run a command of this release; return its output."""
        environment = {**self.environment, "DATABASE_URL": database_url}
        return await shell(command, run_as=Account(None), environment=environment, cwd=self.folder)


@dataclass
class Fleet:
    """Processes and their gateway."""

    folder: Path
    settings: dict[str, str]
    gateway: Gateway
    own_settings: dict[int, Mapping[str, str]]  # of one process, by port
    processes: dict[int, Program] = field(default_factory=dict)  # by port

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        folder: Path,
        world: World,
        database_url: str,
        release: Release,
        own_settings: Sequence[Mapping[str, str]] = ({},) * PROCESSES,
        **others: str,
    ) -> AsyncIterator[Fleet]:
        """Processes of a release on a database while the block runs; `others` are further settings of all."""
        settings = {
            "DATABASE_URL": database_url,
            "BILLING_SERVICE_URL": world.billing.url,
            "JWT_SECRET_KEY": secrets.token_hex(32),
            "LOG_LEVEL": "WARNING",
            "RATE_LIMIT_DEFAULT": "",
            **{name: str(value) for name, value in as_in_production().items() if value is not None},
            **others,
        }
        ports = [a_port() for _ in range(PROCESSES)]
        async with AsyncExitStack() as stopping:
            gateway = Gateway(folder / "nginx", ports)
            stopping.callback(gateway.stop)
            fleet = cls(folder, settings, gateway, dict(zip(ports, own_settings, strict=True)))
            stopping.push_async_callback(fleet.stop)
            for port in ports:
                fleet.processes[port] = fleet.start(port, release)
            await asyncio.gather(*(fleet.until_ready(port) for port in ports))
            yield fleet

    @property
    def url(self) -> str:
        """The URL for clients."""
        return self.gateway.url

    async def replace(self, release: Release, **settings: str) -> str:
        """Replace every process, one at a time: remove it from nginx, stop it, start the new one, add it.

        `settings` are changed for the new ones.
        """
        self.settings |= settings
        for port, process in self.processes.items():
            self.gateway.leave_out({port})
            await asyncio.sleep(LEFT_OUT_SECONDS)
            await asyncio.to_thread(process.stop)
            self.processes[port] = self.start(port, release)
            await self.until_ready(port)
            self.gateway.leave_out(())
            await asyncio.sleep(LEFT_OUT_SECONDS)
        return ""

    def start(self, port: int, release: Release) -> Program:
        """Start `serve` as an operator does."""
        return Program(
            [sys.executable, "-m", "provider_registration", "serve"],
            self.folder / f"{release.name}-{port}.log",
            environment={
                **release.environment,
                **self.settings,
                **self.own_settings[port],
                "APP_PORT": str(port),
            },
        )

    async def until_ready(self, port: int) -> None:
        """Return when a process responds and has its database."""
        async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert self.processes[port].is_alive, self.processes[port].tail()
                try:
                    response = await client.get(f"http://127.0.0.1:{port}/health/ready", timeout=2)
                except httpx.HTTPError:
                    response = None
                if response is not None and response.is_success:
                    return
                await asyncio.sleep(0.1)

    def logs(self) -> list[str]:
        """The ends of the logs."""
        return [f"{process.log.name}:\n{process.tail()}" for process in self.processes.values()]

    async def stop(self) -> None:
        """End every process."""
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self.processes.values()))
