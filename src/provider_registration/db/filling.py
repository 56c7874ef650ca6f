"""Fills a column that is empty in many rows, although a statement has little time and others use the table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause

from provider_registration.db.database import Database

BEFORE_ALL = UUID(int=0)


class Filler:
    """Fills the rows that are empty, some at a time, in the order of their IDs."""

    def __init__(
        self,
        database: Database,
        *,
        find: TextClause,
        make: Callable[[Sequence[Row[Any]]], str],
        fill: TextClause,
        batch: int,
    ) -> None:
        """`find`: up to `:max_rows` empty rows whose `id` is greater than `:after`, in the order of their IDs.

        `make` computes, in a thread, what `fill` gets as `:made`; `fill` leaves out rows that others have locked.
        """
        self._database = database
        self._find, self._make, self._fill = find, make, fill
        self._most = batch
        self._batch = batch
        self._after = BEFORE_ALL

    @property
    def is_at_start(self) -> bool:
        """Whether the last empty row was found: the next batch begins with the first."""
        return self._after == BEFORE_ALL

    async def fill(self) -> int:
        """Fill the next batch; return how many rows were filled.

        No lock is held while values are computed. After a batch that took too long, the next is half as large. Each
        begins where the last one ended: PostgreSQL may keep index entries of filled rows, to be skipped one by one.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond, or it took too long.
        """
        batch, self._batch = self._batch, max(1, self._batch // 2)
        async with self._database.statement() as session:
            rows = (await session.execute(self._find, {"after": self._after, "max_rows": batch})).all()
        filled = await self._fill_rows(rows) if rows else 0
        self._after = rows[-1].id if len(rows) == batch else BEFORE_ALL
        self._batch = min(self._most, 2 * batch)
        return filled

    async def fill_all(self) -> None:
        """Fill batches until the last empty row was found."""
        await self.fill()
        while not self.is_at_start:
            await self.fill()

    async def _fill_rows(self, rows: Sequence[Row[Any]]) -> int:
        made = await asyncio.to_thread(self._make, rows)
        async with self._database.statement() as session:
            filled = await session.execute(self._fill, {"made": made})
            return filled.rowcount  # type: ignore[attr-defined,no-any-return]
