"""Two ways to request a page, one description of it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from provider_registration.web.pagination import MAX_OFFSET, NEWEST_END, Page, PageQuery, Pagination, Position


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, Page(limit=20, offset=0)),
        ({"limit": 5}, Page(limit=5, offset=0)),
        ({"offset": 5}, Page(limit=20, offset=5)),
        ({"limit": 5, "offset": 12}, Page(limit=5, offset=12)),
        ({"page": 1}, Page(limit=20, offset=0)),
        ({"page": 3}, Page(limit=20, offset=40)),
        ({"page_size": 7}, Page(limit=7, offset=0)),
        ({"page": 3, "page_size": 7}, Page(limit=7, offset=14)),
    ],
)
def test_a_query_is_a_slice(query, page):
    assert PageQuery(**query).to_page() == page


@pytest.mark.parametrize("query", [{"limit": 5, "page": 1}, {"offset": 0, "page_size": 1}, {"limit": None, "page": 0}])
def test_other_queries_are_refused(query):
    with pytest.raises(ValidationError):
        PageQuery(**query)


@pytest.mark.asvs("V1.4.2")
@given(page=st.integers(), page_size=st.integers())
def test_no_page_lies_beyond_what_postgresql_can_skip(page, page_size):
    try:
        query = PageQuery(page=page, page_size=page_size)
    except ValidationError:
        return
    assert 0 <= query.to_page().offset <= MAX_OFFSET


@given(limit=st.integers(1, 100), number=st.integers(1, 1000), total=st.integers(0, 10**6))
def test_a_page_asked_for_by_number_is_described_by_that_number(limit, number, total):
    described = Pagination.of(PageQuery(page=number, page_size=limit).to_page(), total, None)

    assert (described.page, described.page_size, described.limit) == (number, limit, limit)
    assert described.total_pages * limit >= total > (described.total_pages - 1) * limit


@pytest.mark.parametrize("position", [Position(datetime(2026, 3, 1, 9, tzinfo=UTC), uuid4()), NEWEST_END])
def test_a_cursor_is_a_position_and_nothing_near_it_is(position):
    cursor = position.to_cursor()
    assert Position.from_cursor(cursor) == position

    for other in (
        cursor[:-1],
        cursor + "====",
        "!" + cursor,
        cursor[:9] + "." + cursor[9:],
        cursor + cursor,
        "ä" + cursor,
    ):
        with pytest.raises(PydanticCustomError):
            Position.from_cursor(other)
