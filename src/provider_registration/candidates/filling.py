"""The background task, in every process, that fills search texts left empty by an older release."""

from __future__ import annotations

import json
import logging

from provider_registration.candidates import queries
from provider_registration.candidates.search_text import search_text
from provider_registration.db.database import Database
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 2.0  # between checks
BATCH = 500  # candidates at a time


async def fill_search_texts(database: Database) -> int:
    """Fill one batch of empty search texts and return its size. No lock is held while the texts are computed."""
    async with database.statement() as session:
        rows = (await session.execute(queries.FIND_WITHOUT_SEARCH_TEXT, {"max_rows": BATCH})).all()
    if rows:
        filled = [
            {
                **row._asdict(),
                "id": str(row.id),
                "search_text": search_text(row.company_name, row.contact_email, row.phone, row.location),
            }
            for row in rows
        ]
        async with database.statement() as session:
            await session.execute(queries.FILL_SEARCH_TEXTS, {"filled": json.dumps(filled)})
    return len(rows)


async def keep_search_texts_filled(database: Database) -> None:
    """Fill until cancelled: batch by batch, with a check every 2 s."""
    limited = RateLimitedLogger(logger)

    async def fill() -> bool:
        return await fill_search_texts(database) == BATCH

    await repeat(
        fill,
        seconds=SECONDS,
        logger=limited,
        later="the database does not respond; filling search texts will be retried",
        failed="filling search texts failed",
    )
