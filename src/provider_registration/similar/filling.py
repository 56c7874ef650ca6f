"""The background task, in every process, that fills the keys of new and changed candidates."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from provider_registration.db.database import Database
from provider_registration.db.filling import Filler
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat
from provider_registration.similar import queries
from provider_registration.similar.keys import Facts, stored_keys, stored_word_keys

logger = logging.getLogger(__name__)

SECONDS = 1.0  # between checks
BATCH = 200  # candidates at a time


def filler_of_keys(database: Database) -> Filler:
    """Fills empty keys."""
    return Filler(database, find=queries.FIND_EMPTY, make=_with_keys, store=queries.FILL, batch=BATCH)


def _with_keys(rows: Sequence[Row[Any]]) -> str:
    made = []
    for row in rows:
        facts = Facts(row.company_name, row.contact_email, row.phone)
        keys = {"id": str(row.id), "keys": stored_keys(facts), "word_keys": stored_word_keys(facts)}
        made.append(row._asdict() | keys)
    return json.dumps(made)


async def keep_keys_filled(database: Database) -> None:
    """Fill until cancelled: batch by batch, with a check every second."""
    keys = filler_of_keys(database)

    async def fill() -> bool:
        await keys.fill()
        return not keys.is_at_start

    await repeat(
        fill,
        seconds=SECONDS,
        logger=RateLimitedLogger(logger),
        later="the database does not respond; filling the keys of similar companies will be retried",
        failed="filling the keys of similar companies failed",
    )
