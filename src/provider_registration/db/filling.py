"""Fills a column that is empty in many rows, although a statement has little time and others use the table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause

from provider_registration.db.database import Database, DatabaseUnavailable

GROWTH = 5  # rows more in each batch, after one that took too long
BEFORE_ALL = UUID(int=0)


class Filler:
    """Fills the rows that are empty, some at a time, in the order of their IDs, again and again."""

    def __init__(
        self,
        database: Database,
        *,
        find: TextClause,
        make: Callable[[Sequence[Row[Any]]], str],
        store: TextClause,
        batch: int,
    ) -> None:
        """`find`: up to `:max_rows` empty rows whose `id` is greater than `:after`, in the order of their IDs.

        `make` computes, in a thread, what `store` gets as `:made`; `store` leaves out rows that others have locked.
        """
        self._database = database
        self._find, self._make, self._store = find, make, store
        self._most = batch
        self._batch = batch
        self._after = BEFORE_ALL

    @property
    def is_at_start(self) -> bool:
        """Whether the last empty row was found: the next batch begins with the first."""
        return self._after == BEFORE_ALL

    async def fill(self) -> int:
        """Fill the next batch; return how many rows were filled.

        No lock is held while values are computed. Each batch begins where the last one ended: while a transaction is
        open, PostgreSQL keeps the index entries of filled rows, and would read them all again. So what is emptied or
        left out behind that is filled in the next pass.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond, or it took too long: the next batch is half as large.
        """
        try:
            rows, filled = await self._fill_at_most(self._batch)
        except DatabaseUnavailable:
            self._batch = max(1, self._batch // 2)
            raise
        self._after = rows[-1].id if len(rows) == self._batch else BEFORE_ALL
        self._batch = min(self._most, self._batch + GROWTH)
        return filled

    async def fill_all(self) -> None:
        """Fill batches until the last empty row was found."""
        await self.fill()
        while not self.is_at_start:
            await self.fill()

    async def _fill_at_most(self, limit: int) -> tuple[Sequence[Row[Any]], int]:
        """The rows that were found, and how many of them were filled."""
        async with self._database.statement() as session:
            rows = (await session.execute(self._find, {"after": self._after, "max_rows": limit})).all()
        if not rows:
            return rows, 0
        made = await asyncio.to_thread(self._make, rows)
        async with self._database.statement() as session:
            filled = await session.execute(self._store, {"made": made})
            return rows, filled.rowcount  # type: ignore[attr-defined]
