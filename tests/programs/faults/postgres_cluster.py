"""The runner's own PostgreSQL, which can be killed, with production's durability."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from provider_registration.db import migrations
from provider_registration.local.postgres import PrivatePostgres
from tests.ports import a_port

TEMPLATE = "migrated"


class PostgresCluster:
    """One server with a fixed port; its databases are copies of a migrated one."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "postgres"
        self.port = a_port()
        self.options = {"max_connections": "300"}
        self._server = self._new_server()
        self._url = ""

    def _new_server(self) -> PrivatePostgres:
        return PrivatePostgres(self._home, port=self.port, options=self.options)

    async def start(self) -> None:
        """Start the server and create the template database."""
        self._url = await asyncio.to_thread(self._server.start)
        await self._execute(f'CREATE DATABASE "{TEMPLATE}"')
        await asyncio.to_thread(migrations.upgrade, self.url_of(TEMPLATE))

    def url_of(self, database: str) -> str:
        """URL of one of the databases."""
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    async def create_database(self) -> str:
        """Create a migrated database; return its URL."""
        name = f"faults_{uuid4().hex[:12]}"
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
        return self.url_of(name)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def kill(self) -> None:
        """Kill the server, as the kernel's OOM killer does."""
        os.kill(self.pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The server's first process."""
        return int((self.home / "data/postmaster.pid").read_text().split("\n")[0])

    @property
    def home(self) -> Path:
        """The folder of its files."""
        return self._home.resolve()

    async def restart(self) -> None:
        """Restart a killed server."""
        await asyncio.to_thread(self._server.stop)  # waits for its end, and releases the folder
        self._server = self._new_server()
        url = await asyncio.to_thread(self._server.start)
        assert urlsplit(url).port == self.port, "another program took the server's port"

    async def halt(self) -> None:
        """Stop the server; another one may be started in its place."""
        await asyncio.to_thread(self._server.stop)

    async def stop(self) -> None:
        """Stop the server and remove its files."""
        await asyncio.to_thread(self._server.stop)
        await asyncio.to_thread(shutil.rmtree, self.home, ignore_errors=True)
