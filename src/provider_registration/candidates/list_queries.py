"""The SQL of lists: each combination of filters and order is a statement of constant clauses, with its own plan.

It is composed when it is first used. A filter is one clause, in `selection.FILTERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, TextClause, bindparam

from provider_registration.candidates.company import Product
from provider_registration.candidates.matching import MAX_NEAR_WORDS
from provider_registration.candidates.queries import (
    APPROVAL_COLUMNS,
    CANDIDATE_COLUMNS,
    EXPORTED_LINE,
    INSTANT,
    RECORD_COLUMNS,
)
from provider_registration.candidates.selection import COUNTED, FILTERS, Order
from provider_registration.db.statements import statement
from provider_registration.web.pagination import MAX_LIMIT

# Candidates. With a low constant in the SQL, and without OFFSET, PostgreSQL reuses one plan for every limit: planning a
# page takes longer than reading it.
MAX_PAGE = 500
MAX_TOTAL = 10_000  # rows that are counted
MAX_INDEXED_WORDS = 3  # each costs time; further words filter what the index finds
MAX_STATEMENTS = 512  # that are kept

# Conditions of a search by words: one for each indexed word, one for the others, and for an ID that was typed.
_WORDS = {
    **{f"word_{number}": f"search_text LIKE :word_{number}" for number in range(1, MAX_INDEXED_WORDS + 1)},
    "other_words": "search_text LIKE ALL (CAST(:other_words AS text[]))",
}
_TYPED_IDS = {"candidate_id": "id = :candidate_id", "provider_id": "provider_id = :provider_id"}
_KEYS = {f"keys_{number}": f"word_keys && CAST(:keys_{number} AS integer[])" for number in range(1, MAX_NEAR_WORDS + 1)}
# Always true. A plan for any values would cost a thousand million rows here, so PostgreSQL makes one for these values:
# it depends on them whether few rows match, which an index finds, or many, of which the first are soon there.
_PLANNED = """(
    SELECT count(*)
    FROM generate_series(1, :once) AS thousand, generate_series(1, :once) AS million,
         generate_series(1, :once) AS thousand_million
) = 1"""
# Each product has an index of its own, which a plan for any `:product` cannot use: each page would be planned again.
_OF_PRODUCTS = {f"product {product}": f"products @> ARRAY['{product}']" for product in Product}
_CONDITIONS = FILTERS | _OF_PRODUCTS | _WORDS | {"ids": "id = ANY(:ids)"}

# The IDs of one page in the order of an index, plus one more, which shows whether there is a next page.
_PAGE = """
    WITH page AS (
        SELECT id, row_number() OVER (ORDER BY {order}) AS number
        FROM (
            SELECT id, {column}
            FROM candidates
            WHERE {beyond} {conditions}
            ORDER BY {order}
            LIMIT {longest} {offset}
        ) AS longest
        ORDER BY {order}
        LIMIT :limit + 1
    )
"""

# The same of the rows that match, unless there are too many.
_PAGE_OF_MATCHES = """
    WITH matched AS MATERIALIZED (
        SELECT id, {column} FROM candidates WHERE true {conditions} LIMIT {most} + 1
    ), page AS (
        SELECT id, row_number() OVER (ORDER BY {order}) AS number
        FROM (
            SELECT id, {column}
            FROM matched
            WHERE {beyond} AND (SELECT count(*) FROM matched) <= {most}
            ORDER BY {order}
            LIMIT {longest} {offset}
        ) AS longest
        ORDER BY {order}
        LIMIT :limit + 1
    )
"""

# Where the total is from.
_TOTALS = {
    "counts": """
        SELECT CAST(coalesce(sum(count), 0) AS bigint) AS total
        FROM candidate_counts
        WHERE product = coalesce(CAST(:product AS text), '')
          AND (CAST(:status AS text) IS NULL OR status = :status)
    """,
    "matched": "SELECT count(*) AS total FROM matched",
    "none": "SELECT CAST(NULL AS bigint) AS total",
}

# The candidates of a page, each with its unfinished approval; one row of NULLs if there are none.
_ROWS = """
    , total AS ({total})
    SELECT {candidate}, {approval}, total.total
    FROM total
    LEFT JOIN page ON true
    LEFT JOIN candidates ON candidates.id = page.id
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
    ORDER BY page.number
"""

# Their IDs and versions.
_VERSIONS = """
    , total AS ({total})
    SELECT candidates.id, candidates.version, candidates.{column} AS value, total.total
    FROM total
    LEFT JOIN page ON true
    LEFT JOIN candidates ON candidates.id = page.id
    ORDER BY page.number
"""

# The records of a page as one array, and the total.
_RECORDS = """
    , record AS (
        SELECT {record}, candidates.{column} AS value, page.number
        FROM page
        JOIN candidates USING (id)
        WHERE page.number <= :limit
    ), total AS ({total}), last AS (
        SELECT value, id FROM record ORDER BY number DESC LIMIT 1
    )
    SELECT total,
           (SELECT count(*) FROM page) > :limit AS has_more,
           (SELECT value FROM last) AS last_value,
           (SELECT id FROM last) AS last_id,
           (SELECT '[' || coalesce(string_agg(json, ',' ORDER BY number), '') || ']' FROM record) AS records
    FROM total
"""

# The exported fields of a page as JSON, one object a line, the number of rows, and the position of the last.
_LINES = """
    SELECT ({total}) AS total, count(*) AS rows, (array_agg(value))[count(*)] AS last_value,
           (array_agg(id))[count(*)] AS last_id, coalesce(string_agg(line, ''), '') AS lines
    FROM (
        SELECT candidates.id, candidates.{column} AS value, {line} AS line
"""
# In the order of an index: looking up each row by its ID would take half as long again.
_LINES_OF_ALL = """
        FROM candidates
        WHERE {beyond} {conditions}
        ORDER BY {order}
        LIMIT {page}
    ) AS made
"""
_LINES_OF_MATCHES = """
        FROM page
        JOIN candidates USING (id)
        ORDER BY page.number
        LIMIT {page}
    ) AS made
"""

# Rows that match, to be ranked.
_MATCHES = """
    SELECT id, company_name, search_text, provider_id, created_at
    FROM candidates
    WHERE true {conditions}
    LIMIT :max_rows
"""

# Rows with a word in their name like each of some words, to be compared. Without a LIMIT where the keys are looked up:
# PostgreSQL would read the table until it has so many, although a few match.
_NEAR = """
    WITH near AS MATERIALIZED (
        SELECT candidate_id FROM candidate_keys WHERE true {keys}
    )
    SELECT id, company_name, search_text, provider_id, created_at
    FROM near
    JOIN candidates ON candidates.id = near.candidate_id
    WHERE true {conditions}
    LIMIT :max_rows
"""

# The number of rows that match.
_COUNT = "SELECT count(*) FROM (SELECT FROM candidates WHERE true {conditions} LIMIT {most} + 1) AS matched"

Template = str | tuple[str, str]
TEMPLATES: dict[Template, str] = {
    "matches": _MATCHES,
    "near": _NEAR,
    "count": _COUNT,
    ("all", "lines"): _LINES + _LINES_OF_ALL,
    ("matched", "lines"): _PAGE_OF_MATCHES + _LINES + _LINES_OF_MATCHES,
    **{
        (pages, output): template + columns
        for pages, template in (("all", _PAGE), ("matched", _PAGE_OF_MATCHES))
        for output, columns in (("rows", _ROWS), ("versions", _VERSIONS), ("records", _RECORDS))
    },
}


def names_of_clauses(filters: Mapping[str, Any]) -> frozenset[str]:
    """The clauses of these filters and values. In a list that keeps its plan, each product has one of its own."""
    names = frozenset(filters)
    if "product" in names and names <= COUNTED:
        return names - {"product"} | {f"product {Product(filters['product'])}"}
    return names


@lru_cache(maxsize=MAX_STATEMENTS)
def list_statement(
    template: Template,
    filters: frozenset[str],
    words: tuple[str, ...] = (),
    order: Order = Order.NEWEST,
    total: str = "none",
    *,
    has_position: bool = False,
    has_offset: bool = False,
) -> TextClause:
    """A template with the conditions of these filters, and those of words, which an ID that was typed may replace."""
    beyond, direction = ("<", " DESC") if order.startswith("-") else (">", "")
    by_rank = "array_position(CAST(:ids AS uuid[]), id)"
    column = "created_at" if order is Order.RELEVANCE else order.column
    is_counted = not words and filters <= COUNTED | _OF_PRODUCTS.keys()
    keys = [condition for name, condition in _KEYS.items() if name in filters]
    conditions = [*_conditions(filters), *_either(words), *([] if is_counted else [_PLANNED])]
    made = statement(
        TEMPLATES[template],
        column=column,
        order=by_rank if order is Order.RELEVANCE else f"{column}{direction}, id{direction}",
        beyond=f"({column}, id) {beyond} (:after, :after_id)" if has_position else "true",
        conditions=_and(conditions),
        keys=_and(keys),
        total=_TOTALS[total],
        page=str(MAX_PAGE),
        offset="OFFSET :offset" if has_offset else "",
        longest=str((MAX_LIMIT if template[1] == "records" else MAX_PAGE) + 1),
        most=str(MAX_TOTAL),
        candidate=CANDIDATE_COLUMNS,
        approval=APPROVAL_COLUMNS,
        record=RECORD_COLUMNS,
        line=EXPORTED_LINE,
    )
    if not is_counted:
        made = made.bindparams(once=1)
    if template[1] in ("records", "lines"):
        made = made.bindparams(INSTANT)
    if has_position and column in ("created_at", "updated_at"):
        made = made.bindparams(bindparam("after", type_=DateTime(timezone=True)))
    return made


def _and(conditions: Iterable[str]) -> str:
    return "".join(f" AND {each}" for each in conditions)


def _conditions(filters: Iterable[str]) -> list[str]:
    return [condition for name, condition in _CONDITIONS.items() if name in filters]


def _either(words: tuple[str, ...]) -> list[str]:
    if not words:
        return []
    every = " AND ".join(_conditions(words))
    typed_ids = "".join(f" OR {condition}" for name, condition in _TYPED_IDS.items() if name in words)
    return [f"({every}{typed_ids})"]
