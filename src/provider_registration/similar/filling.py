"""The background task, in every process, that fills the keys of new and changed candidates."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from provider_registration.db.database import Database
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat
from provider_registration.similar import queries
from provider_registration.similar.keys import Facts, stored_keys, stored_word_keys

logger = logging.getLogger(__name__)

SECONDS = 1.0  # between checks
BATCH = 200  # candidates at a time, at most
BEFORE_ALL = UUID(int=0)


class Filling:
    """Fills the keys that are empty, some candidates at a time, in the order of their IDs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = BATCH
        self._after = BEFORE_ALL

    @property
    def is_at_start(self) -> bool:
        """Whether the last candidate without keys was found: the next batch begins with the first."""
        return self._after == BEFORE_ALL

    async def fill(self) -> int:
        """Fill the next batch, except candidates that others have locked; return how many were filled.

        No lock is held while the keys are computed. After a batch that took too long, the next is half as large.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond, or it took too long.
        """
        most, self._batch = self._batch, max(1, self._batch // 2)
        async with self._database.statement() as session:
            parameters = {"after": self._after, "max_rows": most}
            rows = (await session.execute(queries.FIND_EMPTY, parameters)).all()
        filled = await self._fill(rows) if rows else 0
        self._after = rows[-1].id if len(rows) == most else BEFORE_ALL
        self._batch = min(BATCH, 2 * most)
        return filled

    async def _fill(self, rows: Sequence[Row[Any]]) -> int:
        made = await asyncio.to_thread(_with_keys, rows)
        async with self._database.statement() as session:
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
    filling = Filling(database)

    async def fill() -> bool:
        await filling.fill()
        return not filling.is_at_start

    await repeat(
        fill,
        seconds=SECONDS,
        logger=RateLimitedLogger(logger),
        later="the database does not respond; filling the keys of similar companies will be retried",
        failed="filling the keys of similar companies failed",
    )
