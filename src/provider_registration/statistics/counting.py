"""Counts the events of the feed in the rows of their days, once each.

Any number of processes may run it: the one that locks the row of statistics_progress counts until it commits, and the
position moves in the same transaction.
"""

from __future__ import annotations

import logging

from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.failpoints import reach
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import OLDEST_UNCOUNTED_SECONDS
from provider_registration.periodic import repeat
from provider_registration.statistics import queries

logger = logging.getLogger(__name__)

SECONDS = 2.0  # between checks; readers add what is not counted yet
BATCH = 1000  # events in one transaction, at most
GROWTH = 20  # events more after each transaction, if a batch was too large for the time limit


class Counter:
    """Counts events in batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = BATCH

    async def count(self) -> bool:
        """Count some events, and set the metric of the oldest that was not counted; return whether more are waiting.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond; what was not committed is counted later.
        """
        async with self._database.statement() as session:
            age = await session.scalar(queries.FIND_AGE)
        OLDEST_UNCOUNTED_SECONDS.set(age or 0)
        if age is None:
            return False
        try:
            counted = await self._count_at_most(self._batch)
        except DatabaseUnavailable:
            self._batch = max(1, self._batch // 2)  # it may have been too large for the time limit
            raise
        has_more = counted == self._batch
        self._batch = min(BATCH, self._batch + GROWTH)
        return has_more

    async def _count_at_most(self, limit: int) -> int:
        async with self._database.transaction() as session:
            position = await session.scalar(queries.LOCK_PROGRESS)
            if position is None:  # another process counts, or the migration
                return 0
            counted: int = await session.scalar(queries.COUNT, {"position": position, "limit": limit})
            await reach("statistics.before-commit")
        await reach("statistics.after-commit")
        return counted


async def keep_counting(database: Database) -> None:
    """Count until cancelled."""
    await repeat(
        Counter(database).count,
        seconds=SECONDS,
        logger=RateLimitedLogger(logger),
        later="the database does not respond; statistics will be counted later",
        failed="statistics could not be counted",
    )
