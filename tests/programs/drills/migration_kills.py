"""One `migrate` that is killed at a step or during an index build or a count, and repeated."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory

from provider_registration.db import migrations
from tests.programs.faults.world import RECONNECTING

from .fleet import Release
from .programs import Program

CLIENT, SESSION, SERVER = "the command, SIGKILL", "its session, terminated", "PostgreSQL, SIGKILL"
INDEX, COUNT, SOME_MOMENT = "an index", "the recount", "some moment"
LOOK_SECONDS = 0.003
WITHIN_STEP, WITHIN_STATEMENT = 0.02, 0.4  # maximum seconds from the chosen moment to the kill
STUCK_SECONDS = 60.0
GONE = "nothing: it was over before"

FIND_MIGRATION = """
    SELECT pid, query FROM pg_stat_activity
    WHERE application_name = 'provider-registration-migrate' AND datname = current_database()
      AND EXISTS (SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid AND locktype = 'advisory')
"""
FIND_REVISION = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True)
class Kill:
    """What is killed, and when: at the step to a revision or the next one, or at INDEX, COUNT or SOME_MOMENT."""

    how: str
    moment: str

    def is_due(self, query: str, at: str | None) -> bool:
        """Whether this is the chosen moment, given the running statement and the revision."""
        if self.moment == INDEX:
            return "INDEX CONCURRENTLY" in query
        if self.moment == COUNT:
            return "SELECT recount_candidates()" in query
        return self.moment == SOME_MOMENT or (at is not None and at >= predecessors()[self.moment])


@dataclass
class Round:
    """Successive kills of the same command, which finally completes."""

    gone: float = 0.0  # seconds from a kill until its session had ended and its lock was free, the worst
    again: float = 0.0  # seconds that the last run took
    hit: list[str] = field(default_factory=list)  # what was running at each


class Migrator:
    """Runs one `migrate`, and kills it."""

    def __init__(self, log: Path, release: Release, arguments: Sequence[str], url: str, random: Random) -> None:
        self._log = log
        self._environment = {**release.environment, "DATABASE_URL": url}
        self._command = [sys.executable, "-m", "provider_registration", "migrate", *arguments]
        self._url = url
        self._random = random
        self._seconds = 0.0  # of a run without kills, after it has the lock

    async def measure(self) -> None:
        """Run it without kills."""
        async with self._looking() as looking:
            program = self._start()
            await self._until_due(Kill(CLIENT, SOME_MOMENT), program, looking)
            begun = time.monotonic()
            await self._end(program)
            self._seconds = time.monotonic() - begun

    async def go_through(self, kills: Sequence[Kill]) -> Round:
        """Kill it this many times, then let it finish."""
        one = Round()
        for kill in kills:
            await self._kill(kill, one)
        begun = time.monotonic()
        await self._end(self._start())
        one.again = time.monotonic() - begun
        return one

    async def _kill(self, kill: Kill, one: Round) -> None:
        within = {SOME_MOMENT: self._seconds, INDEX: WITHIN_STATEMENT, COUNT: WITHIN_STATEMENT}
        async with self._looking() as looking:
            program = self._start()
            if await self._until_due(kill, program, looking):
                await asyncio.sleep(self._random.uniform(0, within.get(kill.moment, WITHIN_STEP)))
            row = await looking.fetchrow(FIND_MIGRATION)
            if row is None:
                await self._end(program)
                one.hit.append(GONE)
                return
            one.hit.append(f"at {await revision(looking)}: {' '.join(row['query'].split())[:70]}")
            killed = time.monotonic()
            if kill.how == CLIENT:
                program.kill()
            elif kill.how == SESSION:
                await looking.execute("SELECT pg_terminate_backend($1)", row["pid"])
            else:
                os.kill(row["pid"], signal.SIGKILL)  # PostgreSQL ends every session and recovers, as after a crash
        await asyncio.to_thread(program.wait)
        assert "Traceback" not in program.log.read_text(), program.tail()
        async with self._looking() as looking:
            while await looking.fetchrow(FIND_MIGRATION) is not None:
                assert time.monotonic() - killed < STUCK_SECONDS, f"the killed session goes on: {one.hit[-1]}"
                await asyncio.sleep(LOOK_SECONDS)
        one.gone = max(one.gone, time.monotonic() - killed)

    async def _until_due(self, kill: Kill, program: Program, looking: asyncpg.Connection) -> bool:
        """Wait for the chosen moment; False if the run ended before."""
        while program.is_alive:
            row = await looking.fetchrow(FIND_MIGRATION)
            if row is not None and kill.is_due(row["query"], await revision(looking)):
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _end(self, program: Program) -> None:
        while program.is_alive:
            await asyncio.sleep(LOOK_SECONDS)
        assert program.status == 0, program.tail()

    def _start(self) -> Program:
        self._log.unlink(missing_ok=True)
        return Program(self._command, self._log, environment=self._environment)

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await connect(self._url)
        try:
            yield connection
        finally:
            connection.terminate()


async def connect(url: str) -> asyncpg.Connection:
    """A connection, as soon as PostgreSQL accepts one."""
    async with asyncio.timeout(STUCK_SECONDS):
        while True:
            try:
                return await asyncpg.connect(url, server_settings={"application_name": "drill"})
            except RECONNECTING:
                await asyncio.sleep(LOOK_SECONDS)


async def revision(connection: asyncpg.Connection) -> str | None:
    """The schema's revision; None before the first step."""
    try:
        return await connection.fetchval(FIND_REVISION)
    except asyncpg.UndefinedTableError:
        return None


@cache
def predecessors() -> dict[str, str]:
    """The revisions except the first, in their order, each with the one before it. Their names sort as they do."""
    scripts = ScriptDirectory.from_config(Config(migrations.find_config()))
    oldest_first = sorted(one.revision for one in scripts.walk_revisions())
    return dict(zip(oldest_first[1:], oldest_first, strict=False))
