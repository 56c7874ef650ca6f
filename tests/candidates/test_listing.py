"""Listing: newest first, page by page, by status and product."""

from __future__ import annotations

import pytest

from provider_registration.candidates.schemas import CandidateResponse

CANDIDATES = "/candidates"

INSERT = """
    INSERT INTO candidates (id, company_name, contact_email, products, truck_count, capacity_tons_per_day, status,
                            provider_id, created_at)
    SELECT gen_random_uuid(), 'Company ' || i, 'company' || i || '@example.com', $2, 1, 1, $3::text,
           CASE WHEN $3::text = 'approved' THEN 1000 + i END, now() - make_interval(secs => i / 10)
    FROM generate_series($4::int, $4 + $1 - 1) AS i
"""


@pytest.fixture
def insert(database, no_candidates):
    """Insert candidates; the first is the newest, and groups of ten have the same time."""
    count = 0

    async def insert(number, *, products=("apples",), status="pending"):
        nonlocal count
        await database.execute(INSERT, number, list(products), status, count)
        count += number

    return insert


@pytest.fixture
def listed(viewer):
    """List with these parameters; return the names and the page's metadata."""

    async def listed(**parameters):
        response = await viewer.get(CANDIDATES, params=parameters)
        assert response.status_code == 200, response.text
        body = response.json()
        return [candidate["company_name"] for candidate in body["candidates"]], body["pagination"]

    return listed


async def test_without_candidates_the_list_is_empty(listed, no_candidates):
    names, pagination = await listed()

    assert names == []
    assert pagination == {
        "total": 0,
        "limit": 20,
        "offset": 0,
        "page": 1,
        "page_size": 20,
        "total_pages": 0,
        "next_cursor": None,
    }


async def test_an_entry_is_the_whole_record(viewer, register, no_candidates):
    record = await register()

    response = await viewer.get(CANDIDATES)

    assert response.json()["candidates"] == [record]


async def test_the_newest_comes_first(listed, register, no_candidates):
    registered = [(await register())["company_name"] for _ in range(5)]

    names, _ = await listed()

    assert names == registered[::-1]


async def test_a_decision_does_not_change_the_order(listed, register, admin, no_candidates):
    registered = [await register() for _ in range(3)]
    await admin.post(f"{CANDIDATES}/{registered[0]['candidate_id']}/reject")

    names, _ = await listed()

    assert names == [candidate["company_name"] for candidate in registered[::-1]]


async def test_twenty_come_at_a_time_unless_told(listed, insert):
    await insert(45)

    names, pagination = await listed()

    assert len(names) == 20
    assert pagination == {
        "total": 45,
        "limit": 20,
        "offset": 0,
        "page": 1,
        "page_size": 20,
        "total_pages": 3,
        "next_cursor": pagination["next_cursor"],
    }


@pytest.mark.parametrize(
    ("parameters", "number", "expected"),
    [
        ({"limit": 1}, 1, {"limit": 1, "offset": 0, "page": 1, "total_pages": 45}),
        ({"limit": 100}, 45, {"limit": 100, "offset": 0, "page": 1, "total_pages": 1}),
        ({"limit": 45}, 45, {"limit": 45, "offset": 0, "page": 1, "total_pages": 1}),
        ({"limit": 44}, 44, {"limit": 44, "offset": 0, "page": 1, "total_pages": 2}),
        ({"offset": 40}, 5, {"limit": 20, "offset": 40, "page": 3, "total_pages": 3}),
        ({"limit": 10, "offset": 15}, 10, {"limit": 10, "offset": 15, "page": 2, "total_pages": 5}),
        ({"limit": 10, "offset": 45}, 0, {"limit": 10, "offset": 45, "page": 5, "total_pages": 5}),
        ({"offset": 0}, 20, {"limit": 20, "offset": 0, "page": 1, "total_pages": 3}),
        ({"offset": 100_000}, 0, {"limit": 20, "offset": 100_000}),
        ({"page": 1}, 20, {"limit": 20, "offset": 0, "page": 1, "total_pages": 3}),
        ({"page": 3}, 5, {"limit": 20, "offset": 40, "page": 3, "total_pages": 3}),
        ({"page": 4}, 0, {"limit": 20, "offset": 60, "page": 4, "total_pages": 3}),
        ({"page": 5_001}, 0, {"limit": 20, "page": 5_001, "offset": 100_000}),
        ({"page": 100_001, "page_size": 1}, 0, {"limit": 1, "page": 100_001}),
        ({"page_size": 7}, 7, {"limit": 7, "offset": 0, "page": 1, "total_pages": 7}),
        ({"page": 7, "page_size": 7}, 3, {"limit": 7, "offset": 42, "page": 7, "page_size": 7, "total_pages": 7}),
        ({"page_size": 100}, 45, {"limit": 100, "page_size": 100, "total_pages": 1}),
    ],
)
async def test_a_page_is_what_was_asked_for(listed, insert, parameters, number, expected):
    await insert(45)

    names, pagination = await listed(**parameters)

    assert len(names) == number
    assert pagination["total"] == 45
    assert pagination.items() >= expected.items()


@pytest.mark.parametrize("size", [1, 7, 20])
async def test_the_pages_together_are_the_whole_list_either_way(listed, insert, size):
    await insert(23)
    whole, _ = await listed(limit=100)

    by_page = [name for page in range(1, 25) for name in (await listed(page=page, page_size=size))[0]]
    by_offset = [name for offset in range(0, 24, size) for name in (await listed(limit=size, offset=offset))[0]]

    assert len(set(whole)) == 23
    assert by_page == by_offset == whole


async def follow(viewer, **parameters):
    """All pages in order, by the cursors and by the Link headers."""
    pages, link = [], {}
    while True:
        response = await viewer.get(CANDIDATES, params=parameters)
        assert response.status_code == 200, response.text
        if link:
            assert (await viewer.get(link["url"])).json() == response.json()
        pages.append(response.json())
        link, cursor = response.links.get("next"), response.json()["pagination"]["next_cursor"]
        assert (link is None) == (cursor is None)
        if cursor is None:
            return pages
        parameters = {name: value for name, value in parameters.items() if name != "cursor"} | {"cursor": cursor}


@pytest.mark.parametrize("size", [{"limit": 1}, {"limit": 7}, {"page_size": 20}, {"limit": 23}, {}])
async def test_cursors_lead_through_the_whole_list(viewer, listed, insert, size):
    await insert(23)
    whole, _ = await listed(limit=100)

    pages = await follow(viewer, **size)

    assert [candidate["company_name"] for page in pages for candidate in page["candidates"]] == whole
    assert {page["pagination"]["total"] for page in pages} == {23}
    assert {page["pagination"]["offset"] for page in pages[1:]} <= {None}


async def test_cursors_lead_through_what_a_filter_leaves(viewer, assortment):
    pages = await follow(viewer, status="pending", product="apples", limit=3)

    assert [len(page["candidates"]) for page in pages] == [3, 3, 1]
    assert {candidate["status"] for page in pages for candidate in page["candidates"]} == {"pending"}
    assert {page["pagination"]["total"] for page in pages} == {7}


async def test_a_cursor_is_not_moved_by_those_who_register_meanwhile(viewer, insert, register):
    await insert(4)
    first = (await viewer.get(CANDIDATES, params={"limit": 2})).json()
    await register()

    cursor = first["pagination"]["next_cursor"]
    second = (await viewer.get(CANDIDATES, params={"limit": 2, "cursor": cursor})).json()

    names = [candidate["company_name"] for page in (first, second) for candidate in page["candidates"]]
    assert len(set(names)) == 4


async def test_the_first_page_is_linked_to(viewer, insert):
    await insert(30)
    second = await viewer.get(CANDIDATES, params={"limit": 10, "offset": 10, "status": "pending"})

    first = await viewer.get(second.links["first"]["url"])

    assert first.json() == (await viewer.get(CANDIDATES, params={"limit": 10, "status": "pending"})).json()


@pytest.mark.parametrize(
    "cursor", ["", "x", "MARKER", "A" * 31, "A" * 33, "é" * 32, "=" * 32, "A" * 31 + "B=", "\x00" * 32, "+/" * 16]
)
async def test_what_is_no_cursor_is_refused(viewer, cursor):
    response = await viewer.get(CANDIDATES, params={"cursor": cursor})

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["cursor"]
    assert "MARKER" not in response.text


@pytest.mark.parametrize("cursor", ["A" * 32, "_" * 32, "f" + "_" * 31, "gAAAAAAA" + "A" * 24])
async def test_a_made_up_cursor_is_a_place_or_refused(viewer, cursor):
    assert (await viewer.get(CANDIDATES, params={"cursor": cursor})).status_code in (200, 422)


@pytest.mark.parametrize("place", [{"offset": 0}, {"page": 1}])
async def test_a_cursor_is_the_only_place(viewer, insert, place):
    await insert(3)
    page = (await viewer.get(CANDIDATES, params={"limit": 1})).json()

    response = await viewer.get(CANDIDATES, params={"cursor": page["pagination"]["next_cursor"], **place})

    assert response.status_code == 422
    assert "Use cursor, offset or page" in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize("place", [{"page": 100_001}, {"page": 5_002}, {"page": 1_002, "page_size": 100}])
async def test_pages_too_far_are_refused_with_the_way_on(viewer, place):
    response = await viewer.get(CANDIDATES, params=place)

    assert response.status_code == 422
    assert "cursor" in response.json()["errors"][0]["detail"]


async def test_a_page_has_the_shape_of_the_schema(viewer, admin, register, no_candidates):
    await register(phone=None, location=None, company_name='Ünïcode "quoted" \\ 果物 \u2028')
    rejected = await register()
    await admin.post(f"{CANDIDATES}/{rejected['candidate_id']}/reject", json={"reason": "No cold chain"})

    listed = (await viewer.get(CANDIDATES)).json()["candidates"]

    for candidate in listed:
        assert candidate == (await viewer.get(f"{CANDIDATES}/{candidate['candidate_id']}")).json()
        assert list(candidate) == list(CandidateResponse.model_fields)


@pytest.fixture
async def assortment(insert):
    """Candidates of each status with different products."""
    await insert(3, products=["apples"])
    await insert(4, products=["apples", "oranges"])
    await insert(2, products=["oranges"], status="approved")
    await insert(1, products=["apples", "bananas"], status="approved")
    await insert(5, products=["bananas"], status="rejected")


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        ({"status": "pending"}, 7),
        ({"status": "approved"}, 3),
        ({"status": "rejected"}, 5),
        ({"product": "apples"}, 8),
        ({"product": "oranges"}, 6),
        ({"product": "bananas"}, 6),
        ({"product": "mangoes"}, 0),
        ({"status": "pending", "product": "oranges"}, 4),
        ({"status": "approved", "product": "apples"}, 1),
        ({"status": "rejected", "product": "apples"}, 0),
        ({}, 15),
    ],
)
async def test_filters_leave_what_they_say(viewer, assortment, filters, number):
    response = await viewer.get(CANDIDATES, params=filters)

    candidates = response.json()["candidates"]
    assert len(candidates) == response.json()["pagination"]["total"] == number
    assert all(candidate["status"] == filters.get("status", candidate["status"]) for candidate in candidates)
    assert all(filters.get("product", candidate["products"][0]) in candidate["products"] for candidate in candidates)


async def test_filters_and_pages_go_together(listed, assortment):
    names, pagination = await listed(status="pending", product="apples", page=2, page_size=4)

    assert len(names) == 3
    assert (pagination["total"], pagination["total_pages"]) == (7, 2)


async def test_a_decision_moves_a_candidate_to_the_other_filter(listed, register, admin, no_candidates):
    candidate = await register()

    await admin.post(f"{CANDIDATES}/{candidate['candidate_id']}/reject")

    assert await names_of(listed, status="pending") == []
    assert await names_of(listed, status="rejected") == [candidate["company_name"]]


async def names_of(listed, **parameters):
    names, _ = await listed(**parameters)
    return names


@pytest.mark.asvs("API4")
@pytest.mark.parametrize("name", ["limit", "page_size"])
@pytest.mark.parametrize(
    "value", ["0", "101", "-1", "9" * 30, "1.5", "ten", "NaN", "0x10", "1e1", "\x00", "[]", "true"]
)
async def test_impossible_sizes_are_refused(viewer, name, value):
    response = await viewer.get(CANDIDATES, params={name: value})

    assert response.status_code == 422
    assert [(error["location"], error["field"]) for error in response.json()["errors"]] == [("query", name)]


@pytest.mark.parametrize("name", ["offset", "page"])
@pytest.mark.parametrize("value", ["-1", "2147483648", "9" * 30, "1.5", "first", "\x00"])
async def test_impossible_places_are_refused(viewer, name, value):
    response = await viewer.get(CANDIDATES, params={name: value})

    assert response.status_code == 422
    assert [(error["location"], error["field"]) for error in response.json()["errors"]] == [("query", name)]


async def test_pages_are_counted_from_1(viewer):
    assert (await viewer.get(CANDIDATES, params={"page": 0})).status_code == 422


@pytest.mark.asvs("V2.1.2", "V2.2.3")
@pytest.mark.parametrize("first", [{"limit": 10}, {"offset": 0}, {"limit": 5, "offset": 5}])
@pytest.mark.parametrize("second", [{"page": 1}, {"page_size": 10}, {"page": 2, "page_size": 5}])
async def test_the_two_ways_to_ask_do_not_mix(viewer, first, second):
    response = await viewer.get(CANDIDATES, params=first | second)

    assert response.status_code == 422
    assert response.json()["errors"] == [
        {
            "location": "query",
            "field": None,
            "code": "combination",
            "detail": "Use limit and offset, or page and page_size, not both",
        }
    ]


@pytest.mark.parametrize(
    "asked", [{"limit": 20, "page": 2, "page_size": 1}, {"limit": 1, "offset": 1, "page_size": 20}]
)
async def test_the_default_size_counts_as_omitted_because_generated_clients_send_it(viewer, insert, asked):
    await insert(3)

    page = (await viewer.get(CANDIDATES, params=asked)).json()["pagination"]

    assert (page["limit"], page["offset"]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "Pending"),
        ("status", "done"),
        ("status", "pending,approved"),
        ("product", "pears"),
        ("product", "\x00"),
    ],
)
async def test_unknown_filter_values_are_refused(viewer, name, value):
    response = await viewer.get(CANDIDATES, params={name: value})

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [name]


@pytest.mark.parametrize("name", ["order", "Status", "statuses", "limit ", "", "x" * 101, "company_name"])
async def test_unknown_parameters_are_refused_by_name_without_their_values(viewer, name):
    response = await viewer.get(CANDIDATES, params={name: "MARKER"})

    assert response.status_code == 422
    assert "MARKER" not in response.text
    [error] = response.json()["errors"]
    assert (error["location"], error["field"], error["code"]) == ("query", name[:100] or None, "unknown")


@pytest.mark.asvs("V15.3.7")
@pytest.mark.parametrize("path", ["/candidates", "/approvals"])
@pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=1&limit=1"])
async def test_a_parameter_that_comes_twice_is_refused(admin, path, query):
    response = await admin.get(f"{path}?{query}")

    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert (error["field"], error["code"]) == ("limit", "repeated")
