"""The background task, in every process, that fills search texts left empty by an older release."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from provider_registration.candidates import queries
from provider_registration.candidates.search_text import search_text
from provider_registration.db.database import Database
from provider_registration.db.filling import Filler
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 2.0  # between checks
BATCH = 500  # candidates at a time


def filler_of_search_texts(database: Database) -> Filler:
    """Fills empty search texts."""
    find, store = queries.FIND_WITHOUT_SEARCH_TEXT, queries.FILL_SEARCH_TEXTS
    return Filler(database, find=find, make=_with_search_texts, store=store, batch=BATCH)


def _with_search_texts(rows: Sequence[Row[Any]]) -> str:
    made = []
    for row in rows:
        made_text = search_text(row.company_name, row.contact_email, row.phone, row.location)
        made.append(row._asdict() | {"id": str(row.id), "search_text": made_text})
    return json.dumps(made)


async def keep_search_texts_filled(database: Database) -> None:
    """Fill until cancelled: batch by batch, with a check every 2 s."""
    search_texts = filler_of_search_texts(database)

    async def fill() -> bool:
        await search_texts.fill()
        return not search_texts.is_at_start

    await repeat(
        fill,
        seconds=SECONDS,
        logger=RateLimitedLogger(logger),
        later="the database does not respond; filling search texts will be retried",
        failed="filling search texts failed",
    )
