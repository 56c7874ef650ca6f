"""The background task that removes events older than RETENTION_EVENTS_DAYS from both logs."""

from __future__ import annotations

import logging

from provider_registration.activity import queries
from provider_registration.db.database import Database
from provider_registration.db.retention import find_obstacle
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import EVENTS_PRUNED
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 600.0  # between two checks; the query uses an index
BATCH = 500  # events of each log at a time


async def keep_pruning_events(database: Database, *, days: int) -> None:
    """Remove old events until cancelled: batch by batch, with a check every 10 minutes."""

    limited = RateLimitedLogger(logger)

    async def prune() -> bool:
        async with database.statement() as session:
            if obstacle := await find_obstacle(await session.connection()):
                limited.warning(obstacle)
                return False
            pruned = int(await session.scalar(queries.PRUNE, {"days": days, "batch": BATCH}) or 0)
        EVENTS_PRUNED.inc(pruned)
        return pruned >= BATCH

    await repeat(
        prune,
        seconds=SECONDS,
        logger=limited,
        later="the database does not respond; removing old events will be retried",
        failed="removing old events failed",
    )
