"""The background task, in every process, that fills the keys of new and changed candidates."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from provider_registration.db.database import Database
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat
from provider_registration.similar import queries
from provider_registration.similar.keys import Facts, stored_keys, stored_word_keys

logger = logging.getLogger(__name__)

SECONDS = 1.0  # between checks
BATCH = 200  # candidates at a time


async def fill_keys(database: Database) -> int:
    """Fill one batch of empty keys, except those that others have locked; return how many were filled.

    No lock is held while the keys are computed.
    """
    async with database.statement() as session:
        rows = (await session.execute(queries.FIND_EMPTY, {"max_rows": BATCH})).all()
    if not rows:
        return 0
    made = await asyncio.to_thread(_with_keys, rows)
    async with database.statement() as session:
        filled = await session.execute(queries.FILL, {"made": made})
        return filled.rowcount  # type: ignore[attr-defined,no-any-return]


def _with_keys(rows: Sequence[Row[Any]]) -> str:
    made = []
    for row in rows:
        facts = Facts(row.company_name, row.contact_email, row.phone)
        keys = {"id": str(row.id), "keys": stored_keys(facts), "word_keys": stored_word_keys(facts)}
        made.append(row._asdict() | keys)
    return json.dumps(made)


async def keep_keys_filled(database: Database) -> None:
    """Fill until cancelled: batch by batch, with a check every second."""

    async def fill() -> bool:
        return await fill_keys(database) == BATCH

    await repeat(
        fill,
        seconds=SECONDS,
        logger=RateLimitedLogger(logger),
        later="the database does not respond; filling the keys of similar companies will be retried",
        failed="filling the keys of similar companies failed",
    )
