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
from provider_registration.local.postgres import PrivatePostgres, free_port

TEMPLATE = "migrated"


class PostgresCluster:
    """One server on one port, whatever happens to it; databases on it are copies of a migrated one."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "postgres"
        self.port = free_port()
        self.options = {"max_connections": "300"}
        self._server = self._new_server()
        self._url = ""

    def _new_server(self) -> PrivatePostgres:
        return PrivatePostgres(self._home, port=self.port, options=self.options)

    async def start(self) -> None:
        """Start the server and make the database that others are copied from."""
        self._url = await asyncio.to_thread(self._server.start)
        await self._execute(f'CREATE DATABASE "{TEMPLATE}"')
        await asyncio.to_thread(migrations.upgrade, self.url_of(TEMPLATE))

    def url_of(self, database: str) -> str:
        """URL of one of the databases."""
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    async def create_database(self) -> str:
        """Make a migrated database; return its URL."""
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
        """End the server at once, as the kernel does when memory runs out."""
        os.kill(self.pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The server's first process."""
        return int((self.home / "data/postmaster.pid").read_text().split("\n")[0])

    @property
    def home(self) -> Path:
        """Where its files are."""
        return self._home.resolve()

    async def restart(self) -> None:
        """Start a killed server again, where it was."""
        await asyncio.to_thread(self._server.stop)  # waits for its end, and lets go of the folder
        self._server = self._new_server()
        url = await asyncio.to_thread(self._server.start)
        assert urlsplit(url).port == self.port, "another program took the server's port"

    async def halt(self) -> None:
        """Stop the server; another may be started where it was."""
        await asyncio.to_thread(self._server.stop)

    async def stop(self) -> None:
        """Stop the server and remove its files."""
        await asyncio.to_thread(self._server.stop)
        await asyncio.to_thread(shutil.rmtree, self.home, ignore_errors=True)
