"""The search behind the API's list, the console and exports.

A page is an index scan that starts where the previous page ended, so every page costs the same; only an offset skips
rows. A filter is one clause here; each combination of filters is a statement with its own plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain, combinations
from uuid import UUID

from sqlalchemy import DateTime, TextClause, bindparam
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Candidate, CandidatePage, Status
from provider_registration.candidates.queries import APPROVAL_COLUMNS, CANDIDATE_COLUMNS, INSTANT, RECORD_COLUMNS
from provider_registration.candidates.search_text import query_patterns
from provider_registration.db.statements import statement
from provider_registration.web.pagination import NEWEST_END, Page, Position

OLDEST_END = Position(datetime.min.replace(tzinfo=UTC), UUID(int=0))
MAX_PAGE = 500  # candidates; a constant in the SQL lets PostgreSQL reuse one plan for every limit
MAX_MATCHES = 1000  # matches of a search that are read
MAX_INDEXED_WORDS = 3  # each costs time; further words filter what the index finds


class Order(StrEnum):
    """Order by registration time; any other order would need an index that slows down registrations."""

    OLDEST = "oldest"
    NEWEST = "newest"

    @property
    def start(self) -> Position:
        """The position before the first."""
        return OLDEST_END if self is Order.OLDEST else NEWEST_END


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters and order. Each of `words` must be in the search text."""

    status: Status | None = None
    product: Product | None = None
    words: str = ""
    order: Order = Order.OLDEST

    @property
    def filters(self) -> dict[str, object]:
        """The value of each filter that is set."""
        return {name: value for name in FILTERS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Found:
    """A page of a selection. `next`: where the next page starts; `is_partial`: with MAX_MATCHES, more may match."""

    candidates: list[Candidate]
    next: Position | None
    is_partial: bool = False


# The SQL condition for each field of a selection.
FILTERS = {
    "status": "status = :status",
    "product": "products @> ARRAY[CAST(:product AS text)]",
}
_ORDERS = {
    Order.NEWEST: {"beyond": "<", "order": "created_at DESC, id DESC"},
    Order.OLDEST: {"beyond": ">", "order": "created_at, id"},
}

# The IDs of one page, plus one more, which shows whether there is a next page.
_PAGE = """
    WITH page AS (
        SELECT id, row_number() OVER (ORDER BY {order}) AS place
        FROM (
            SELECT id, created_at
            FROM candidates
            WHERE (created_at, id) {beyond} (:after, :after_id) {filters}
            ORDER BY {order}
            LIMIT {longest} OFFSET :offset
        ) AS longest
        ORDER BY {order}
        LIMIT :limit + 1
    ), summary AS (
        SELECT false AS is_partial
    )
"""

# The same for candidates that have every word: at most :max_rows, in the order in which the index finds them. So a very
# common word costs no more than one with a thousand matches.
_PAGE_OF_MATCHES = """
    WITH matched AS (
        SELECT id, status, products, created_at
        FROM candidates
        WHERE search_text LIKE ALL (CAST(:other_words AS text[])) {words}
        LIMIT :max_rows
    ), page AS (
        SELECT id, row_number() OVER (ORDER BY {order}) AS place
        FROM matched
        WHERE (created_at, id) {beyond} (:after, :after_id) {filters}
        ORDER BY {order}
        LIMIT :limit + 1
    ), summary AS (
        SELECT count(*) = :max_rows AS is_partial FROM matched
    )
"""

# The candidates of a page, each with its unfinished approval; one row of NULLs if there are none.
_ROWS = """
    SELECT {candidate}, {approval}, summary.is_partial
    FROM summary
    LEFT JOIN page ON true
    LEFT JOIN candidates ON candidates.id = page.id
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
    ORDER BY page.place
"""

# The records of a page as one array, and the total. A filter without stored counts would need to be counted here.
_RECORDS = """
    , record AS (
        SELECT {record}, page.place
        FROM page
        JOIN candidates USING (id)
        WHERE page.place <= :limit
    ), total AS (
        SELECT CAST(coalesce(sum(count), 0) AS bigint) AS total
        FROM candidate_counts
        WHERE product = coalesce(CAST(:product AS text), '')
          AND (CAST(:status AS text) IS NULL OR status = :status)
    ), last AS (
        SELECT created_at, id FROM record ORDER BY place DESC LIMIT 1
    )
    SELECT total,
           (SELECT count(*) FROM page) > :limit AS has_more,
           (SELECT created_at FROM last) AS last_created_at,
           (SELECT id FROM last) AS last_id,
           (SELECT '[' || coalesce(string_agg(json, ',' ORDER BY place), '') || ']' FROM record) AS records
    FROM total
"""


def _statement(order: Order, filters: Iterable[str], words: int, output: str) -> TextClause:
    return statement(
        (_PAGE_OF_MATCHES if words else _PAGE) + output,
        **_ORDERS[order],
        longest=str(MAX_PAGE + 1),
        filters="".join(f" AND {FILTERS[name]}" for name in filters),
        words="".join(f" AND search_text LIKE :word_{number}" for number in range(1, words + 1)),
        candidate=CANDIDATE_COLUMNS,
        approval=APPROVAL_COLUMNS,
        record=RECORD_COLUMNS,
    ).bindparams(bindparam("after", type_=DateTime(timezone=True)))


_SUBSETS = [frozenset(some) for some in chain.from_iterable(combinations(FILTERS, n) for n in range(len(FILTERS) + 1))]
# By order, filters that are set, and number of indexed words.
PAGES_OF_ROWS = {
    (order, filters, words): _statement(order, filters, words, _ROWS)
    for order in Order
    for filters in _SUBSETS
    for words in range(MAX_INDEXED_WORDS + 1)
}
# By order and filters that are set.
PAGES_OF_RECORDS = {
    (order, filters): _statement(order, filters, 0, _RECORDS).bindparams(INSTANT)
    for order in Order
    for filters in _SUBSETS
}


async def find_records(session: AsyncSession, selection: Selection, page: Page) -> CandidatePage:
    """One page of a selection without search words, as JSON, with the total."""
    query = PAGES_OF_RECORDS[selection.order, frozenset(selection.filters)]
    parameters = dict.fromkeys(FILTERS) | _parameters(selection, page)
    return CandidatePage.from_row((await session.execute(query, parameters)).mappings().one())


async def find_candidates(session: AsyncSession, selection: Selection, page: Page) -> Found:
    """One page of a selection, at most MAX_PAGE candidates."""
    parameters = _parameters(selection, page)
    indexed: list[str] = []
    if selection.words:
        patterns = query_patterns(selection.words)
        if not patterns:
            return Found([], None)
        indexed = patterns[:MAX_INDEXED_WORDS]
        parameters |= {f"word_{number}": pattern for number, pattern in enumerate(indexed, 1)}
        parameters |= {"other_words": patterns[MAX_INDEXED_WORDS:], "max_rows": MAX_MATCHES}
    query = PAGES_OF_ROWS[selection.order, frozenset(selection.filters), len(indexed)]
    rows = (await session.execute(query, parameters)).mappings().all()
    candidates = [Candidate.from_row(row) for row in rows[: page.limit] if row["id"] is not None]
    end = position_of(candidates[-1]) if len(rows) > page.limit else None
    return Found(candidates, end, rows[0]["is_partial"])


def position_of(candidate: Candidate) -> Position:
    """The position of a candidate in lists."""
    return Position(candidate.created_at, candidate.candidate_id)


def _parameters(selection: Selection, page: Page) -> dict[str, object]:
    after = page.after or selection.order.start
    return {**selection.filters, "after": after.at, "after_id": after.id, "limit": page.limit, "offset": page.offset}
