"""Which sessions have ended early: asked of the database all the time, so that requests need not ask."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import datetime
from uuid import UUID

from provider_registration.auth import queries
from provider_registration.auth.tokens import ACCESS_TOKEN_SECONDS
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import DATABASE_UP

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.4  # so that an ended session is known everywhere within a second
STALE_SECONDS = 2.0  # after so long without an answer, requests ask the database themselves
OVERLAP_SECONDS = 60  # longer than any transaction lasts: a revocation may be committed after a later one was seen
SKEW_SECONDS = 15 * 60  # a token of a process whose clock is so much ahead lives as much longer here
REMEMBERED_SECONDS = ACCESS_TOKEN_SECONDS + SKEW_SECONDS
CLEANING_SECONDS = 600.0
MAX_CLEANED = 1000  # rows at a time


class RevocationWatch:
    """Knows the sessions that ended early while their access tokens are still good."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._logger = RateLimitedLogger(logger)
        self._ended: dict[UUID, float] = {}  # session -> when to forget it, by `_now`
        self._asked_at = float("-inf")  # by `_now`
        self._asked_before: datetime | None = None  # the same by the database's, which may be set meanwhile
        self._cleaned_at = _now()

    async def is_revoked(self, session_id: UUID) -> bool:
        """Whether a session has ended early.

        Raises:
            DatabaseUnavailable: nobody knows, since the database has not answered for STALE_SECONDS.
        """
        if _now() - self._asked_at > STALE_SECONDS:
            await self.refresh()
        return session_id in self._ended

    def note(self, session_id: UUID) -> None:
        """Know at once of a session that this process ended."""
        self._ended[session_id] = _now() + REMEMBERED_SECONDS

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self.refresh()
                await self._clean()
                DATABASE_UP.set(1)
            except DatabaseUnavailable:
                DATABASE_UP.set(0)
                self._logger.warning("the database does not answer; whether sessions have ended is not known")
            except Exception:  # there are no tables, or the role may not read them
                DATABASE_UP.set(0)
                self._logger.exception("ended sessions could not be read")
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Ask for the sessions that ended since the last time or, the first time, while their tokens may be good.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        now = _now()
        parameters = {
            "asked_before": self._asked_before,
            "seconds": REMEMBERED_SECONDS if self._asked_before is None else OVERLAP_SECONDS,
        }
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_REVOKED_SESSIONS, parameters)).all()
        for row in rows:
            if row.id is not None:
                self._ended.setdefault(row.id, now + REMEMBERED_SECONDS)
        self._ended = {session_id: until for session_id, until in self._ended.items() if until > now}
        self._asked_at, self._asked_before = now, rows[0].at

    async def _clean(self) -> None:
        if _now() - self._cleaned_at > CLEANING_SECONDS:
            self._cleaned_at = _now()
            async with self._database.statement() as session:
                await session.execute(queries.DELETE_EXPIRED_SESSIONS, {"limit": MAX_CLEANED})


def _now() -> float:
    """Seconds on a clock that nobody sets and that goes on in a suspend, in which Linux stops the monotonic one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
