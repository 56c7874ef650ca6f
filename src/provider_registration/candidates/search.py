"""The search behind the API's list, the console, exports and jobs: the same rows for the same selection.

In a selection by status and product, whose totals are kept, a page is an index scan that starts where the previous page
ended. With other filters, the matching rows are read first, up to MAX_TOTAL: PostgreSQL chooses the index of the filter
that matches least, and the total is exact. If there are more, a page is read in the order of the list, in which
matching rows are frequent.

A search for words finds the rows that have all of them, inside words too. If there are only a few, it also finds those
with a typing error in words of the name.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.candidates.list_queries import (
    MAX_INDEXED_WORDS,
    MAX_PAGE,
    MAX_TOTAL,
    list_statement,
    names_of_clauses,
)
from provider_registration.candidates.matching import Query, best
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.selection import COUNTED, ListPosition, Order, Selection
from provider_registration.web.pagination import CursorPagination, Page

MAX_RELEVANT = 200  # rows of a list by relevance; also those that are completed by rows with typing errors
MAX_RANKED = 500  # matches that are compared for it
NO_ID = UUID(int=0)  # in a position by relevance


@dataclass(frozen=True, slots=True)
class CandidatePage:
    """A page of candidates as JSON. `total`: in the whole list; None if there are more than MAX_TOTAL."""

    records: str
    total: int | None
    next: ListPosition | None

    def pagination(self, page: Page[ListPosition], order: Order) -> CursorPagination:
        """Its position in the list. A list by relevance has no cursors."""
        is_ranked = order is Order.RELEVANCE
        return CursorPagination.at(
            page,
            MAX_TOTAL if self.total is None else self.total,
            self.next.to_cursor() if self.next and not is_ranked else None,
            is_exact=self.total is not None,
            shown=MAX_RELEVANT if is_ranked else sys.maxsize,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A page of a selection. `total`: None if there are more than MAX_TOTAL, or if it is in candidate_counts."""

    candidates: list[Candidate]
    total: int | None
    next: ListPosition | None


@dataclass(frozen=True, slots=True)
class Lines:
    """A page as JSON Lines with the fields of an export. `is_long`: the selection has more than MAX_TOTAL rows."""

    lines: str
    is_long: bool
    next: ListPosition | None


@dataclass(frozen=True, slots=True)
class Versions:
    """Some candidates of a selection, each with its version."""

    versions: list[tuple[UUID, int]]
    next: ListPosition | None


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a statement selects: filters and words by name, and their values. `total`: if it is known already."""

    order: Order
    filters: frozenset[str]
    parameters: dict[str, object]
    words: tuple[str, ...] = ()
    is_counted: bool = False
    total: int | None = None


_Result = TypeVar("_Result")


class Read(Protocol):
    """Runs work in a session."""

    def __call__(self, work: Callable[[AsyncSession], Awaitable[_Result]], /) -> Awaitable[_Result]:
        """Run it and return its result."""


class Search:
    """Reads pages of selections."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def records(self, selection: Selection, page: Page[ListPosition]) -> CandidatePage:
        """One page as JSON, at most MAX_LIMIT candidates, with the total."""
        scope = await self._scope(selection)
        [row] = await self._read(partial(_read_page, output="records", scope=scope, page=page))
        last = row["last_value"], row["last_id"]
        return CandidatePage(row["records"], _total(scope, row), _next(scope, page, last) if row["has_more"] else None)

    async def lines(self, selection: Selection, *, after: ListPosition | None = None, is_long: bool = False) -> Lines:
        """MAX_PAGE rows of every row that matches, or as many as there are. `is_long`: they are known to be many."""
        scope = await self._scope(selection, in_full=True)
        page = Page(MAX_PAGE, after=after)
        [row] = await self._read(partial(_read_page, output="lines", scope=scope, page=page, is_long=is_long))
        is_full = row["rows"] == MAX_PAGE
        following = _next(scope, page, (row["last_value"], row["last_id"])) if is_full else None
        return Lines(row["lines"], row["total"] is None, following)

    async def candidates(self, selection: Selection, page: Page[ListPosition]) -> Found:
        """One page, at most MAX_PAGE candidates."""
        scope = await self._scope(selection)
        rows = await self._read(partial(_read_page, output="rows", scope=scope, page=page))
        found = [Candidate.from_row(row) for row in rows[: page.limit] if row["id"] is not None]
        if len(rows) <= page.limit:
            return Found(found, _total(scope, rows[0]), None)
        last = found[-1]
        value = None if scope.order is Order.RELEVANCE else getattr(last, scope.order.column)
        return Found(found, _total(scope, rows[0]), _next(scope, page, (value, last.candidate_id)))

    async def versions(self, selection: Selection, page: Page[ListPosition]) -> Versions:
        """The IDs and versions of one page, at most MAX_PAGE, of every row that matches."""
        scope = await self._scope(selection, in_full=True)
        rows = await self._read(partial(_read_page, output="versions", scope=scope, page=page))
        found = [(row["id"], row["version"]) for row in rows[: page.limit] if row["id"] is not None]
        if len(rows) <= page.limit:
            return Versions(found, None)
        last = rows[page.limit - 1]
        return Versions(found, _next(scope, page, (last["value"], last["id"])))

    async def _scope(self, selection: Selection, *, in_full: bool = False) -> _Scope:
        filters = selection.filters
        if not selection.words:
            return _Scope(selection.order, names_of_clauses(filters), filters, is_counted=selection.is_counted)
        query = Query.of(selection.words)
        if not query.words:
            return _Scope(selection.order, frozenset(["ids"]), {"ids": []})
        words = _parameters_of(query)
        searched = _Scope(selection.order, frozenset(filters), filters | words, words=tuple(words))
        is_ranked = selection.order is Order.RELEVANCE and not in_full
        rows = list(await self._matches("matches", searched, MAX_RANKED if is_ranked else MAX_RELEVANT + 1))
        if len(rows) > MAX_RELEVANT and not is_ranked:
            order = Order.NEWEST if selection.order is Order.RELEVANCE else selection.order
            return replace(searched, order=order)
        if len(rows) <= MAX_RELEVANT:
            rows += await self._near(query.near_keys, filters)
        elif len(rows) == MAX_RANKED:
            rows += await self._near([query.name_keys], filters)
        ids = await asyncio.to_thread(
            best, query, rows, oldest_first=selection.status is Status.PENDING, limit=MAX_RELEVANT
        )
        total = await self._count(searched) if len(rows) > MAX_RELEVANT else None
        return _Scope(selection.order, frozenset(["ids"]), {"ids": ids}, total=total)

    async def _near(self, keys: list[list[int]], filters: dict[str, object]) -> Sequence[RowMapping]:
        words = {f"keys_{number}": some for number, some in enumerate(keys, 1)}
        return await self._matches(
            "near", _Scope(Order.NEWEST, frozenset([*filters, *words]), filters | words), MAX_RANKED
        )

    async def _matches(self, template: str, scope: _Scope, limit: int) -> Sequence[RowMapping]:
        query = list_statement(template, scope.filters, scope.words)
        parameters = scope.parameters | {"max_rows": limit}

        async def find(session: AsyncSession) -> Sequence[RowMapping]:
            return (await session.execute(query, parameters)).mappings().all()

        return await self._read(find)

    async def _count(self, scope: _Scope) -> int:
        query = list_statement("count", scope.filters, scope.words)

        async def count(session: AsyncSession) -> int:
            return int(await session.scalar(query, scope.parameters))

        return await self._read(count)


def _parameters_of(query: Query) -> dict[str, object]:
    """The values of the conditions for words, by their names."""
    indexed, others = query.patterns[:MAX_INDEXED_WORDS], list(query.patterns[MAX_INDEXED_WORDS:])
    values: dict[str, object] = {f"word_{number}": pattern for number, pattern in enumerate(indexed, 1)}
    optional = {"other_words": others, "candidate_id": query.candidate_id, "provider_id": query.provider_id}
    return values | {name: value for name, value in optional.items() if value}


async def _read_page(
    session: AsyncSession, *, output: str, scope: _Scope, page: Page[ListPosition], is_long: bool = False
) -> Sequence[RowMapping]:
    """The rows of a page. `is_long`: more than MAX_TOTAL match, which are read in the order of the list."""
    position = _position_parameters(scope, page)
    offset = _offset(scope, page)
    parameters = scope.parameters | position | {"limit": page.limit, "offset": offset}
    made = partial(list_statement, has_position="after" in position, has_offset=offset > 0)
    if scope.is_counted:
        total = "counts" if output == "records" else "none"
        if output == "records":
            parameters = dict.fromkeys(COUNTED) | parameters
        query = made(("all", output), scope.filters, (), scope.order, total)
        return (await session.execute(query, parameters)).mappings().all()
    if not is_long:
        query = made(("matched", output), scope.filters, scope.words, scope.order, "matched")
        rows = (await session.execute(query, parameters)).mappings().all()
        if rows[0]["total"] <= MAX_TOTAL:
            return rows
    query = made(("all", output), scope.filters, scope.words, scope.order)
    return (await session.execute(query, parameters)).mappings().all()


def _total(scope: _Scope, row: RowMapping) -> int | None:
    total = row["total"] if scope.total is None else scope.total
    return None if total is None or (total > MAX_TOTAL and not scope.is_counted) else int(total)


def _position_parameters(scope: _Scope, page: Page[ListPosition]) -> dict[str, object]:
    if scope.order is Order.RELEVANCE:
        return {}
    if page.after is not None:
        return {"after": page.after.value, "after_id": page.after.id}
    start = scope.order.start
    return {"after": start.at, "after_id": start.id} if start else {}


def _offset(scope: _Scope, page: Page[ListPosition]) -> int:
    if scope.order is Order.RELEVANCE and page.after is not None:
        return page.offset + int(page.after.value)  # type: ignore[arg-type]
    return page.offset


def _next(scope: _Scope, page: Page[ListPosition], last: tuple[Any, UUID]) -> ListPosition:
    if scope.order is Order.RELEVANCE:
        return ListPosition(scope.order, _offset(scope, page) + page.limit, NO_ID)
    return ListPosition(scope.order, *last)
