"""The background task of every replica that fills the search texts which an older release left empty."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets

from provider_registration.candidates.browsing import queries
from provider_registration.candidates.search_text import search_text
from provider_registration.database import Database, DatabaseUnavailable
from provider_registration.logs import RateLimitedLogger

logger = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two looks, on average: replicas spread out
PAUSE = 0.1  # seconds after a full batch: more are waiting
BATCH = 500  # candidates at a time
JITTER = secrets.SystemRandom()


async def fill_search_texts(database: Database) -> int:
    """Fill one batch of empty search texts; how many were found empty. No lock is held while the texts are made."""
    async with database.statement() as session:
        rows = (await session.execute(queries.FIND_WITHOUT_SEARCH_TEXT, {"most": BATCH})).all()
    if rows:
        made = [
            {
                **row._asdict(),
                "id": str(row.id),
                "search_text": search_text(row.company_name, row.contact_email, row.phone, row.location),
            }
            for row in rows
        ]
        async with database.statement() as session:
            await session.execute(queries.FILL_SEARCH_TEXTS, {"made": json.dumps(made)})
    return len(rows)


class SearchTextFiller:
    """Looks for empty search texts every 2 s, jittered, and fills them batch by batch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._logger = RateLimitedLogger(logger)

    async def run(self) -> None:
        """Fill until cancelled. What goes wrong is logged, and the next look comes all the same."""
        while True:
            found = 0
            try:
                found = await fill_search_texts(self._database)
            except DatabaseUnavailable:
                self._logger.warning("the database does not answer; search texts are filled later")
            except Exception:
                self._logger.exception("filling search texts failed")
            pause = PAUSE if found == BATCH else INTERVAL
            await asyncio.sleep(pause * JITTER.uniform(0.5, 1.5))
