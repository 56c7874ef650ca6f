"""The server of a data folder, run by a drill: stopped, killed, restarted, with its own environment."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from provider_registration.local.accounts import Account, account_for, programs_for
from provider_registration.local.postgres import HOST
from tests.programs.faults.postgres_cluster import PostgresCluster
from tests.programs.faults.world import RECONNECTING

from .programs import Program, signal_tree

STARTED_SECONDS = 60.0
POLL = 0.02


class PostgresProgram:
    """One server; its settings are those of PostgresCluster, whose standbys may not allow less."""

    def __init__(self, programs: Path, account: Account, data: Path, port: int, log: Path) -> None:
        self._programs = programs
        self._account = account
        self._data = data
        self._port = port
        self._log = log
        self._server: Program | None = None

    async def start(self, url: str, environment: Mapping[str, str] | None = None) -> None:
        """Restart it, and wait until it responds at a URL."""
        settings = {
            "port": self._port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": 300,
            "timezone": "UTC",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [self._programs / "postgres", "-D", self._data, *words]
        self._server = Program(command, self._log, run_as=self._account, environment=environment)
        async with asyncio.timeout(STARTED_SECONDS):
            while True:
                try:
                    return await (await asyncpg.connect(url)).close()
                except RECONNECTING:
                    assert self._server.is_alive, self._server.tail()
                    await asyncio.sleep(POLL)

    def kill(self) -> None:
        """Kill it."""
        if self._server is not None:
            self._server.kill()

    def hang(self) -> None:
        """Suspend it with open connections."""
        assert self._server is not None
        self._server.signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume it."""
        assert self._server is not None
        signal_tree(self._server.pid, signal.SIGCONT)


@asynccontextmanager
async def started_instead(
    cluster: PostgresCluster, folder: Path, url: str, environment: Mapping[str, str]
) -> AsyncIterator[PostgresProgram]:
    """The server of a cluster, halted before, in another environment while the block runs; it logs into the folder."""
    account = account_for(cluster.home)
    log = folder / "postgresql.log"
    server = PostgresProgram(programs_for(account), account, cluster.home / "data", cluster.port, log)
    await cluster.halt()
    try:
        await server.start(url, environment)
        yield server
    finally:
        server.kill()
