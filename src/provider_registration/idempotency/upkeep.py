"""The background task of every process that deletes expired answers."""

from __future__ import annotations

import logging

from provider_registration.db.database import Database
from provider_registration.idempotency import queries
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 60.0
BATCH = 500  # rows at a time


async def prune(database: Database) -> bool:
    """Delete one batch of expired answers; whether there may be more."""
    async with database.statement() as session:
        return int(await session.scalar(queries.PRUNE, {"batch": BATCH}) or 0) >= BATCH


async def keep_deleting_answers(database: Database) -> None:
    """Delete expired answers until cancelled."""

    async def work() -> bool:
        return await prune(database)

    await repeat(
        work,
        seconds=SECONDS,
        logger=RateLimitedLogger(logger),
        later="the database does not respond; deleting expired idempotency keys will be retried",
        failed="deleting expired idempotency keys failed",
    )
