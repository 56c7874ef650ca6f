"""Reads from a replica, if there is one, without missing decisions of this process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from time import monotonic
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.observability.logs import RateLimitedLogger

logger = logging.getLogger(__name__)

RETRY_SECONDS = 15.0  # until an unresponsive replica is tried again: each attempt delays requests

# The end of the primary's WAL; everything committed by now is before this position.
END_OF_LOG = text("SELECT pg_current_wal_lsn()")

# The lag of a replica in seconds, given the end of the primary's WAL: the time since the last replayed commit.
LAG_SECONDS = text("""
    SELECT CASE
        WHEN NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= CAST(:position AS pg_lsn) THEN 0
        ELSE CAST(extract(epoch FROM clock_timestamp()
                          - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time())) AS float8)
    END
""")

# Whether a replica has replayed the WAL up to a position; a promoted one has.
HAS_REPLAYED = text("SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= CAST(:position AS pg_lsn)")

Result = TypeVar("Result")
Work = Callable[[AsyncSession], Awaitable[Result]]


REPLAYED = "replayed"  # key in a connection's `info`: the WAL position that its server is known to have reached


class _Behind(Exception):
    """The replica lacks a decision of this process."""


class Reader:
    """Runs single read statements on the replica, unless it is unavailable or lacks a decision of this process.

    The replica's URL may point to several servers, so the lag is checked on the connection that reads.
    """

    def __init__(self, primary: Database, replica: Database | None) -> None:
        self._logger = RateLimitedLogger(logger)
        self._primary = primary
        self._replica = replica
        self._retry_at = 0.0
        self._decisions = 0  # of this process
        self._covered = 0  # of these, the number before `_position` in the WAL
        self._position = 0

    def note_decision(self) -> None:
        """Record a decision: later reads here must see it."""
        self._decisions += 1

    async def read(self, work: Work[Result]) -> Result:
        """Run `work` where it sees every decision of this process.

        Raises:
            DatabaseUnavailable: the primary is needed and does not respond.
        """
        if self._replica is None or monotonic() < self._retry_at:
            return await _do(self._primary, work)
        decisions = self._decisions
        if decisions > self._covered:
            position = await _do(self._primary, _end_of_log)
            self._covered, self._position = max((self._covered, self._position), (decisions, position))
        try:
            return await self._read_replica(self._replica, work)
        except _Behind:
            pass
        except DatabaseUnavailable:
            self._logger.warning("the primary is used instead of the replica", seconds=RETRY_SECONDS)
            self._retry_at = monotonic() + RETRY_SECONDS
        return await _do(self._primary, work)

    async def _read_replica(self, replica: Database, work: Work[Result]) -> Result:
        position = self._position
        if not position:
            return await _do(replica, work)
        # A pooler may use another server for each transaction, so check every time.
        async with replica.statement() if replica.keeps_connections else replica.transaction() as session:
            known = (await session.connection()).info if replica.keeps_connections else {}
            if known.get(REPLAYED, 0) < position:
                if not await session.scalar(HAS_REPLAYED, {"position": position}):
                    raise _Behind
                known[REPLAYED] = position
            return await work(session)

    async def read_primary(self, work: Work[Result]) -> Result:
        """Run `work` on the primary."""
        return await _do(self._primary, work)

    async def measure_lag(self) -> float:
        """The lag of the replica in seconds: 0 without one, infinite if it does not respond.

        Raises:
            DatabaseUnavailable: the primary does not respond.
        """
        if self._replica is None:
            return 0.0
        position = await _do(self._primary, _end_of_log)
        try:
            return await _do(self._replica, partial(_lag_seconds, position=position))
        except DatabaseUnavailable:
            return inf

    @property
    def has_replica(self) -> bool:
        """Whether `read` may see older data than `read_primary`."""
        return self._replica is not None


async def _end_of_log(session: AsyncSession) -> int:
    return int(await session.scalar(END_OF_LOG))


async def _lag_seconds(session: AsyncSession, *, position: int) -> float:
    return float(await session.scalar(LAG_SECONDS, {"position": position}))


async def _do(database: Database, work: Work[Result]) -> Result:
    async with database.statement() as session:
        return await work(session)
