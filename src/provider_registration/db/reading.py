"""Reading from a replica of the database, where there is one, without missing what was decided here."""

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

AWAY_SECONDS = 15.0  # that a replica is left alone after it did not answer: each try may cost requests their time

# How far the primary's log goes; everything committed by now stands before this place.
END_OF_LOG = text("SELECT pg_current_wal_lsn()")

# How many seconds a replica is behind, given the end of the primary's log: since the last commit that it replayed.
LAG_SECONDS = text("""
    SELECT CASE
        WHEN NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= CAST(:place AS pg_lsn) THEN 0
        ELSE CAST(extract(epoch FROM clock_timestamp()
                          - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time())) AS float8)
    END
""")

# Whether a replica has everything up to a place in the primary's log; one that was promoted has.
HAS_REPLAYED = text("SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= CAST(:place AS pg_lsn)")

Result = TypeVar("Result")
Work = Callable[[AsyncSession], Awaitable[Result]]


REPLAYED = "replayed"  # key in a connection's `info`: the place that the server behind it is known to have reached


class _Behind(Exception):
    """The replica that was asked lacks a decision."""


class Reader:
    """Does single statements that read: on the replica, unless it is away or lacks what this process decided.

    Behind the replica's address there may be several: whether one is late is asked of the connection that reads.
    """

    def __init__(self, primary: Database, replica: Database | None) -> None:
        self._logger = RateLimitedLogger(logger)
        self._primary = primary
        self._replica = replica
        self._away_until = 0.0
        self._decisions = 0  # made by this process
        self._placed = 0  # of these, how many stand before `_place` in the primary's log
        self._place = 0

    def decided(self) -> None:
        """Something was decided: nobody who asks here from now on may see it undecided."""
        self._decisions += 1

    async def read(self, work: Work[Result]) -> Result:
        """Do `work` where it sees every decision of this process.

        Raises:
            DatabaseUnavailable: the primary had to be asked and does not answer.
        """
        if self._replica is None or monotonic() < self._away_until:
            return await _do(self._primary, work)
        decisions = self._decisions
        if decisions > self._placed:
            place = await _do(self._primary, _end_of_log)
            self._placed, self._place = max((self._placed, self._place), (decisions, place))
        try:
            return await self._read_replica(self._replica, work)
        except _Behind:
            pass
        except DatabaseUnavailable:
            self._logger.warning("the replica does not answer; the primary is asked instead")
            self._away_until = monotonic() + AWAY_SECONDS
        return await _do(self._primary, work)

    async def _read_replica(self, replica: Database, work: Work[Result]) -> Result:
        place = self._place
        if not place:
            return await _do(replica, work)
        # A pooler may give each transaction another server, which is asked every time.
        async with replica.statement() if replica.keeps_connections else replica.transaction() as session:
            known = (await session.connection()).info if replica.keeps_connections else {}
            if known.get(REPLAYED, 0) < place:
                if not await session.scalar(HAS_REPLAYED, {"place": place}):
                    raise _Behind
                known[REPLAYED] = place
            return await work(session)

    async def read_primary(self, work: Work[Result]) -> Result:
        """Do `work` where nothing can be missing."""
        return await _do(self._primary, work)

    async def measure_lag(self) -> float:
        """How many seconds the replica is behind: 0 without one, infinite when it does not answer.

        Raises:
            DatabaseUnavailable: the primary does not answer.
        """
        if self._replica is None:
            return 0.0
        place = await _do(self._primary, _end_of_log)
        try:
            return await _do(self._replica, partial(_lag_seconds, place=place))
        except DatabaseUnavailable:
            return inf

    @property
    def has_replica(self) -> bool:
        """Whether `read` may see less than `read_primary`."""
        return self._replica is not None


async def _end_of_log(session: AsyncSession) -> int:
    return int(await session.scalar(END_OF_LOG))


async def _lag_seconds(session: AsyncSession, *, place: int) -> float:
    return float(await session.scalar(LAG_SECONDS, {"place": place}))


async def _do(database: Database, work: Work[Result]) -> Result:
    async with database.statement() as session:
        return await work(session)
