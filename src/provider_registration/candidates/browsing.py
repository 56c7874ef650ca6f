"""Reads candidates for the console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from provider_registration.candidates import queries
from provider_registration.candidates.company import Product
from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.search import MAX_PAGE, OLDEST_END, Found, Selection, find_candidates, position_of
from provider_registration.db.database import Database
from provider_registration.web.pagination import Page, Position


class BrowsingService:
    """Reads candidates, page by page, in either order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, selection: Selection, *, limit: int, after: Position | None = None) -> Found:
        """One page of a selection: the first, or the one after a position."""
        async with self._database.statement() as session:
            return await find_candidates(session, selection, Page(limit, after=after))

    async def all(self, selection: Selection) -> AsyncIterator[Candidate]:
        """Every candidate in a selection; for a search, only those among any MAX_MATCHES matches of its words.

        No connection is held while the caller processes a page.
        """
        after: Position | None = None
        while True:
            found = await self.page(selection, limit=MAX_PAGE, after=after)
            for candidate in found.candidates:
                yield candidate
            after = found.next
            if after is None:
                return

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
        positions = [position_of(after), OLDEST_END] if after else [OLDEST_END]
        async with self._database.transaction() as session:
            for position in positions:
                found: UUID | None = await session.scalar(
                    queries.NEXT_PENDING, {"after": position.at, "after_id": position.id}
                )
                if found is not None:
                    return None if after and found == after.candidate_id else found
        return None
