"""A streaming replica of a drill's PostgreSQL: delayed, paused, stopped, killed, started again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from provider_registration.local.accounts import account_for, programs_for
from provider_registration.local.postgres import HOST
from tests.ports import a_port

from .postgres_program import PostgresProgram
from .programs import lend_folder, shell

CAUGHT_UP_SECONDS = 60.0
POLL = 0.02
IS_BEHIND = "SELECT pg_last_wal_replay_lsn() < $1::text::pg_lsn"
END_OF_LOG = "SELECT pg_current_wal_lsn()::text"
# When the service last read here.
LAST_ASKED = """
    SELECT max(query_start) > $1 FROM pg_stat_activity WHERE application_name = 'provider-registration'
"""


class Standby:
    """A standby of the server at one URL, whose role must be a superuser."""

    def __init__(self, folder: Path, primary_url: str) -> None:
        self._primary_url = primary_url
        self._port = a_port()
        self._account = account_for(folder)
        self._programs = programs_for(self._account)
        self._data = lend_folder(folder / "standby", self._account) / "data"
        log = folder / "standby.log"
        self.server = PostgresProgram(self._programs, self._account, self._data, self._port, log)

    @property
    def url(self) -> str:
        """The same database here."""
        parts = urlsplit(self._primary_url)
        return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{HOST}:{self._port}").geturl()

    async def create(self) -> None:
        """Copy the primary, and start streaming."""
        copy = f"{self._programs}/pg_basebackup -d '{self._primary_url}' -D {self._data} -R -X stream -c fast"
        await shell(copy, run_as=self._account, environment={}, cwd=self._data.parent)
        await self.start()

    async def start(self) -> None:
        """Restart it, and wait until it responds."""
        await self.server.start(self.url)

    async def pause(self) -> None:
        """Pause replay."""
        await self.execute("SELECT pg_wal_replay_pause()")

    async def resume(self) -> None:
        """Replay again."""
        await self.execute("SELECT pg_wal_replay_resume()")

    async def delay(self, seconds: float) -> None:
        """Delay replay by this much."""
        await self.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{seconds * 1000:.0f}ms'")
        await self.execute("SELECT pg_reload_conf()")

    async def until_caught_up(self) -> None:
        """Return when it has replayed the primary's current WAL."""
        primary = await asyncpg.connect(self._primary_url)
        place = await primary.fetchval(END_OF_LOG)
        await primary.close()
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            while await self._value(IS_BEHIND, place):
                await asyncio.sleep(POLL)

    async def until_asked(self) -> None:
        """Return when the service has read from it again."""
        moment = await self._value("SELECT clock_timestamp()")
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            while not await self._value(LAST_ASKED, moment):
                await asyncio.sleep(POLL)

    async def execute(self, statement: str) -> None:
        """Execute a statement here."""
        await self._value(statement)

    async def _value(self, statement: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()
