"""Clients that access the candidates table with SQL valid at every revision, without a running service."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from random import Random
from uuid import UUID, uuid4

import asyncpg

from tests.programs.faults.world import INSERT_CANDIDATES, RECONNECTING

from .migration_kills import connect
from .traffic import UNANSWERED, Failure

CALLERS = 3
PERIOD = 0.03  # seconds between two statements of one client
REGISTER, READ, REJECT = "register", "read", "reject"
READ_STATUS = "SELECT status FROM candidates WHERE id = $1"
REJECT_CANDIDATE = "UPDATE candidates SET status = 'rejected' WHERE id = $1 AND status = 'pending'"
READ_STATUSES = "SELECT id, status FROM candidates WHERE id = ANY($1::uuid[])"


class PlainCallers:
    """Register, reject and read, and remember what was committed."""

    def __init__(self, url: str, random: Random) -> None:
        self._url = url
        self._random = random
        self.stored: dict[UUID, str] = {}  # status
        self.failures: list[Failure] = []
        self.requests: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}

    @property
    def slowest_request(self) -> tuple[float, str]:
        """Seconds, and which request."""
        return max(((seconds, what) for what, seconds in self.slowest.items()), default=(0.0, "none"))

    def forget_times(self) -> None:
        """Reset the failures, the slowest requests and the counts."""
        self.failures, self.slowest, self.requests = [], {}, Counter()

    async def run(self) -> None:
        """Send requests until cancelled."""
        await asyncio.gather(*(self._ask() for _ in range(CALLERS)))

    async def lost(self) -> list[UUID]:
        """Committed changes that are missing."""
        connection = await connect(self._url)
        rows = {row["id"]: row["status"] for row in await connection.fetch(READ_STATUSES, list(self.stored))}
        await connection.close()
        return [candidate_id for candidate_id, status in self.stored.items() if rows.get(candidate_id) != status]

    async def _ask(self) -> None:
        connection = await connect(self._url)
        ours: list[UUID] = []
        works = {REGISTER: self._register, READ: self._read, REJECT: self._reject}
        try:
            while True:
                what = self._random.choice([*works]) if ours else REGISTER
                began = time.time()
                self.requests[what] += 1
                try:
                    await works[what](connection, ours)
                except (*RECONNECTING, asyncpg.PostgresError) as error:
                    self.failures.append(Failure(began, time.time(), what, UNANSWERED, repr(error)))
                    connection.terminate()
                    connection = await connect(self._url)
                self.slowest[what] = max(time.time() - began, self.slowest.get(what, 0.0))
                await asyncio.sleep(PERIOD * self._random.uniform(0.5, 1.5))
        finally:
            connection.terminate()

    async def _register(self, connection: asyncpg.Connection, ours: list[UUID]) -> None:
        candidate_id = await connection.fetchval(INSERT_CANDIDATES, [f"company-{uuid4().hex}"])
        self.stored[candidate_id] = "pending"
        ours.append(candidate_id)

    async def _read(self, connection: asyncpg.Connection, ours: list[UUID]) -> None:
        candidate_id = self._random.choice(ours)
        status = await connection.fetchval(READ_STATUS, candidate_id)
        assert status == self.stored[candidate_id], f"{candidate_id} is {status}"

    async def _reject(self, connection: asyncpg.Connection, ours: list[UUID]) -> None:
        candidate_id = ours.pop(self._random.randrange(len(ours)))
        # Without a response, a change may or may not have been stored.
        del self.stored[candidate_id]
        await connection.execute(REJECT_CANDIDATE, candidate_id)
        self.stored[candidate_id] = "rejected"
