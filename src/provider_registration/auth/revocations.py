"""Revoked sessions and API keys, polled from the database so that requests need no query."""

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

POLL_SECONDS = 0.4  # so that every process knows of a sign-out within a second
STALE_SECONDS = 2.0  # since the last successful poll; then requests query the database themselves
OVERLAP_SECONDS = 60  # longer than any transaction: a revocation may be committed after a later one was read
SKEW_SECONDS = 15 * 60  # of clocks: a token from a process whose clock is ahead is valid longer here
REMEMBERED_SECONDS = ACCESS_TOKEN_SECONDS + SKEW_SECONDS
CLEANING_SECONDS = 600.0
MAX_CLEANED = 1000  # rows at a time


class RevocationWatch:
    """Remembers revoked sessions and API keys while processes may still accept them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._logger = RateLimitedLogger(logger)
        self._ended: dict[UUID, float] = {}  # session or key -> when to forget it, by `_now`
        self._polled_at = float("-inf")  # by `_now`
        self._last_poll: datetime | None = None  # the same time by the database's clock, which may be set
        self._cleaned_at = _now()

    async def is_revoked(self, credential_id: UUID) -> bool:
        """Whether a session or API key was revoked.

        Raises:
            DatabaseUnavailable: unknown, since the database has not responded for STALE_SECONDS.
        """
        if _now() - self._polled_at > STALE_SECONDS:
            await self.refresh()
        return credential_id in self._ended

    def note(self, credential_id: UUID) -> None:
        """Remember a session or key that this process revoked."""
        self._ended[credential_id] = _now() + REMEMBERED_SECONDS

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            try:
                await self.refresh()
                await self._clean()
                DATABASE_UP.set(1)
            except DatabaseUnavailable:
                DATABASE_UP.set(0)
                self._logger.warning(
                    "the database does not respond; cannot check for ended sessions and revoked API keys"
                )
            except Exception:  # there are no tables, or the role cannot read them
                DATABASE_UP.set(0)
                self._logger.exception("ended sessions and revoked API keys could not be read")
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Read what was revoked since the last poll or, the first time, what processes may still accept.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond.
        """
        now = _now()
        parameters = {
            "last_poll": self._last_poll,
            "seconds": REMEMBERED_SECONDS if self._last_poll is None else OVERLAP_SECONDS,
        }
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_REVOKED, parameters)).all()
        for row in rows:
            if row.id is not None:
                self._ended.setdefault(row.id, now + REMEMBERED_SECONDS)
        self._ended = {credential_id: until for credential_id, until in self._ended.items() if until > now}
        self._polled_at, self._last_poll = now, rows[0].at

    async def _clean(self) -> None:
        if _now() - self._cleaned_at > CLEANING_SECONDS:
            self._cleaned_at = _now()
            async with self._database.statement() as session:
                await session.execute(queries.DELETE_EXPIRED_SESSIONS, {"limit": MAX_CLEANED})


def _now() -> float:
    """Seconds on a clock that cannot be set and keeps running during suspend; Linux's monotonic clock stops then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
