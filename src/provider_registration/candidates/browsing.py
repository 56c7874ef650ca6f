"""Reads candidates for the console, exports and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.candidates import queries
from provider_registration.candidates.company import Product
from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.candidates.list_queries import MAX_PAGE
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.search import Found, Search, Versions
from provider_registration.candidates.selection import OLDEST_END, ListPosition, Selection
from provider_registration.db.database import Database
from provider_registration.web.pagination import Page, Position

_Result = TypeVar("_Result")


class BrowsingService:
    """Reads candidates, page by page, in any order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._search = Search(self._read)

    async def _read(self, work: Callable[[AsyncSession], Awaitable[_Result]]) -> _Result:
        async with self._database.statement() as session:
            return await work(session)

    async def page(self, selection: Selection, *, limit: int, after: ListPosition | None = None) -> Found:
        """One page of a selection: the first, or the one after a position."""
        return await self._search.candidates(selection, Page(limit, after=after))

    async def lines(self, selection: Selection) -> AsyncIterator[str]:
        """The exported fields of every candidate in a selection, as JSON Lines, at most MAX_PAGE at a time.

        No connection is held while the caller processes a part. By relevance, if more match than are ranked, the
        newest first.
        """
        after: ListPosition | None = None
        is_long = False
        while True:
            found = await self._search.lines(selection, after=after, is_long=is_long)
            if found.lines:
                yield found.lines
            after, is_long = found.next, found.is_long
            if after is None:
                return
            selection = replace(selection, order=after.order)

    async def versions(self, selection: Selection, *, after: ListPosition | None = None) -> Versions:
        """The IDs and versions of at most MAX_PAGE candidates of a selection, after a position; `next` has the others.

        By relevance, if more match than are ranked, the newest first: continue with the order of `next`.
        """
        if after is not None:
            selection = replace(selection, order=after.order)
        return await self._search.versions(selection, Page(MAX_PAGE, after=after))

    async def counts(self, product: Product | None = None) -> dict[Status, int]:
        """The number of candidates in each status."""
        async with self._database.statement() as session:
            rows = await session.execute(queries.COUNT_BY_STATUS, {"product": product or ""})
            counted = {row.status: row.candidates for row in rows}
        return {status: counted.get(status, 0) for status in Status}

    async def candidate(self, candidate_id: UUID) -> Candidate:
        """One candidate, with its unfinished approval.

        Raises:
            CandidateNotFound: there is none.
        """
        async with self._database.statement() as session:
            result = await session.execute(queries.FIND_CANDIDATE, {"candidate_id": candidate_id})
            row = result.mappings().one_or_none()
        if row is None:
            raise CandidateNotFound(candidate_id)
        return Candidate.from_row(row)

    async def candidates(self, candidate_ids: list[UUID]) -> list[Candidate]:
        """The candidates with these IDs that exist, oldest first."""
        async with self._database.statement() as session:
            rows = (await session.execute(queries.FIND_CANDIDATES, {"candidate_ids": candidate_ids})).mappings().all()
        return [Candidate.from_row(row) for row in rows]

    async def next_pending(self, after: Candidate | None = None) -> UUID | None:
        """The next pending candidate after another, starting over at the oldest; None if there is no other."""
        positions = [Position(after.created_at, after.candidate_id), OLDEST_END] if after else [OLDEST_END]
        async with self._database.transaction() as session:
            for position in positions:
                found: UUID | None = await session.scalar(
                    queries.NEXT_PENDING, {"after": position.at, "after_id": position.id}
                )
                if found is not None:
                    return None if after and found == after.candidate_id else found
        return None
