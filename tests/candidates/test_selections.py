"""Every filter, order and search: the API, the console and exports find the rows that a plain loop finds."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from provider_registration.candidates import list_queries, search
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status
from provider_registration.candidates.search_text import search_text
from provider_registration.candidates.selection import FILTERS, ListPosition, Order, Selection
from provider_registration.console.candidates import CandidatesQuery
from provider_registration.db.database import Database
from provider_registration.similar.filling import filler_of_keys

CANDIDATES = "/candidates"
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 120
WORDS = ("Frutas", "Sol", "Norte", "Huerta", "Valle", "Agro", "Citrus", "Muñoz", "O'Neil", "Ромашка", "24/7")
INSERT = """
    INSERT INTO candidates (id, company_name, contact_email, contact_email_canonical, phone, products, truck_count,
                            capacity_tons_per_day, status, provider_id, created_at, updated_at, search_text)
    VALUES ($1, $2, $3::text, lower($3::text), $4, $5, $6, $7, $8::text, $9, $10, $11, $12)
"""
DECIDED = """
    INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version)
    VALUES ($1, $2, 'user', $3, 2)
"""


@pytest.fixture
async def rows(database, no_candidates):
    """Candidates with few different values, so that filters combine; with their deciders."""
    rng = random.Random(7)  # noqa: S311 - no secret
    deciders = [uuid4() for _ in range(3)]
    made = []
    for number in range(ROWS):
        status = rng.choice(["pending", "pending", "approved", "rejected"])
        created_at = BEGUN + timedelta(days=rng.randrange(20))
        name = " ".join(rng.sample(WORDS, 2))
        email = f"Office{number}@{rng.choice(['one', 'two'])}.example"
        phone = rng.choice([None, f"+34 963 555 {number:03}"])
        row = {
            "id": uuid4(),
            "company_name": name,
            "contact_email": email,
            "phone": phone,
            "products": rng.sample(list(Product), rng.choice([1, 2])),
            "truck_count": rng.randint(1, 5),
            "capacity_tons_per_day": rng.randint(1, 9) * 10,
            "status": status,
            "provider_id": 9000 + number if status == "approved" else None,
            "created_at": created_at,
            "updated_at": created_at + timedelta(days=0 if status == "pending" else rng.randint(0, 9)),
            "decided_by": None if status == "pending" else rng.choice(deciders),
        }
        text = search_text(name, email, phone, None)
        made.append(row | {"search_text": text})
    columns = ("id", "company_name", "contact_email", "phone", "products", "truck_count", "capacity_tons_per_day")
    columns = (*columns, "status", "provider_id", "created_at", "updated_at", "search_text")
    await database.executemany(INSERT, [[row[column] for column in columns] for row in made])
    decided = [row for row in made if row["decided_by"]]
    await database.executemany(
        DECIDED, [(row["id"], f"candidate.{row['status']}", row["decided_by"]) for row in decided]
    )
    return made


@pytest.fixture
async def browsing(migrated_database_url):
    database = Database(migrated_database_url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=2)
    yield BrowsingService(database)
    await database.close()


CONDITIONS = {
    "status": lambda row, value: row["status"] == value,
    "product": lambda row, value: value in row["products"],
    "registered_from": lambda row, value: row["created_at"] >= value,
    "registered_to": lambda row, value: row["created_at"] < value,
    "decided_from": lambda row, value: row["status"] != "pending" and row["updated_at"] >= value,
    "decided_to": lambda row, value: row["status"] != "pending" and row["updated_at"] < value,
    "capacity_min": lambda row, value: row["capacity_tons_per_day"] >= value,
    "capacity_max": lambda row, value: row["capacity_tons_per_day"] <= value,
    "trucks_min": lambda row, value: row["truck_count"] >= value,
    "trucks_max": lambda row, value: row["truck_count"] <= value,
    "decided_by": lambda row, value: row["decided_by"] == value,
    "contact_email": lambda row, value: row["contact_email"].lower() == value,
    "updated_since": lambda row, value: row["updated_at"] >= value,
}


def matching(rows, selection):
    """The rows that a selection has, in its order."""
    found = [
        row
        for row in rows
        if all(CONDITIONS[name](row, value) for name, value in selection.filters.items())
        and all(word in row["search_text"] for word in search_text(selection.words, "", None, None).split())
    ]
    column = selection.order.column
    if column != "company_name":
        found.sort(key=lambda row: (row[column], row["id"]), reverse=selection.order.startswith("-"))
    return found


def a_value(rng, name, rows):
    """A value of a filter, which many rows have or few."""
    row = rng.choice(rows)
    values = {
        "status": Status(row["status"]),
        "product": rng.choice(row["products"]),
        "contact_email": row["contact_email"].lower(),
        "decided_by": rng.choice([row["decided_by"] for row in rows if row["decided_by"]]),
        **dict.fromkeys(("registered_from", "updated_since", "decided_from"), BEGUN + timedelta(rng.randrange(15))),
        **dict.fromkeys(("registered_to", "decided_to"), BEGUN + timedelta(rng.randrange(5, 30))),
        **dict.fromkeys(("capacity_min", "capacity_max"), rng.randint(1, 9) * 10),
        **dict.fromkeys(("trucks_min", "trucks_max"), rng.randint(1, 5)),
    }
    return values[name]


def some_selections(rows, count, seed):
    """Selections with up to three filters, perhaps words, and any order but relevance."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(count):
        names = rng.sample(list(FILTERS), rng.randint(0, 3))
        yield Selection(
            **{name: a_value(rng, name, rows) for name in names},
            words=rng.choice(["", "", "sol", "frutas valle", "munoz", "romashka", "one example", "963"]),
            order=rng.choice([order for order in Order if order is not Order.RELEVANCE]),
        )


def parameters_of(selection):
    values = selection.to_json()
    values["sort"] = values.pop("order", Order.OLDEST)
    return values | ({"q": values.pop("words")} if "words" in values else {})


async def listed(viewer, selection, **changes):
    """The IDs that the API lists, page by page, and the last pagination."""
    found, parameters = [], parameters_of(selection) | {"limit": 40} | changes
    while True:
        response = await viewer.get(CANDIDATES, params=parameters)
        assert response.status_code == 200, response.text
        body = response.json()
        found += [UUID(each["candidate_id"]) for each in body["candidates"]]
        cursor = body["pagination"]["next_cursor"]
        if cursor is None:
            return found, body["pagination"]
        parameters["cursor"] = cursor


async def exported(browsing, selection):
    return [id_ async for lines in browsing.lines(selection) for id_ in ids_in(lines)]


def ids_in(lines):
    return [UUID(json.loads(line)["candidate_id"]) for line in lines.split("\n")[:-1]]


async def frozen(browsing, selection):
    found, after = [], None
    while True:
        page = await browsing.versions(selection, after=after)
        found += [candidate_id for candidate_id, _ in page.versions]
        after = page.next
        if after is None:
            return found


@pytest.fixture
def count_to(monkeypatch):
    """Changes how many rows are counted; statements have that number in their text."""

    def count_to(most):
        monkeypatch.setattr(list_queries, "MAX_TOTAL", most)
        monkeypatch.setattr(search, "MAX_TOTAL", most)
        list_queries.list_statement.cache_clear()

    yield count_to
    list_queries.list_statement.cache_clear()


@pytest.mark.parametrize("most", [10_000, 10])
@pytest.mark.parametrize("seed", range(2))
async def test_api_console_export_and_jobs_find_what_a_plain_loop_finds(viewer, browsing, rows, count_to, seed, most):
    count_to(most)
    for selection in some_selections(rows, 20, seed):
        expected = [row["id"] for row in matching(rows, selection)]

        by_api, pagination = await listed(viewer, selection)
        by_export = await exported(browsing, selection)

        assert by_api == by_export == await frozen(browsing, selection), selection
        assert set(by_api) == set(expected), selection
        if selection.order.column != "company_name":
            assert by_api == expected, selection
        if most > len(rows):
            assert pagination["total"] == len(expected), selection
            assert "total_is_exact" not in pagination


@pytest.fixture
def export_at_once(monkeypatch):
    """Changes how many rows an export reads at a time; statements have that number in their text."""

    def export_at_once(most):
        monkeypatch.setattr(list_queries, "MAX_PAGE", most)
        monkeypatch.setattr(search, "MAX_PAGE", most)
        list_queries.list_statement.cache_clear()

    yield export_at_once
    list_queries.list_statement.cache_clear()


@pytest.mark.parametrize("at_once", [7, 8])  # 120 rows fill the last part of 8
@pytest.mark.parametrize("most", [10_000, 10])
async def test_an_export_has_every_row_once_in_parts_that_do_not_grow(
    browsing, rows, count_to, export_at_once, at_once, most
):
    count_to(most)
    export_at_once(at_once)
    for selection in [Selection(), Selection(trucks_min=2, order=Order.LARGEST), *some_selections(rows, 8, seed=4)]:
        parts = [ids_in(lines) async for lines in browsing.lines(selection)]

        found = [id_ for part in parts for id_ in part]
        assert len(found) == len(set(found)), selection
        assert set(found) == {row["id"] for row in matching(rows, selection)}, selection
        assert all(len(part) == at_once for part in parts[:-1]), selection
        assert all(0 < len(part) <= at_once for part in parts), selection


async def test_a_filter_alone_and_without_matches(viewer, browsing, rows):
    rng = random.Random(3)  # noqa: S311 - no secret
    for name in FILTERS:
        selection = Selection(**{name: a_value(rng, name, rows)}, order=Order.NEWEST)
        expected = [row["id"] for row in matching(rows, selection)]
        assert expected
        assert (await listed(viewer, selection))[0] == await exported(browsing, selection) == expected, name
    nothing = Selection(capacity_min=1000, order=Order.LARGEST)
    assert (await listed(viewer, nothing))[0] == await exported(browsing, nothing) == []


@pytest.mark.parametrize("order", [order for order in Order if order is not Order.RELEVANCE])
async def test_every_order_is_that_of_its_column(viewer, rows, order):
    found, _ = await listed(viewer, Selection(order=order))

    place = {row["id"]: row for row in rows}
    values = [(place[each][order.column], each) for each in found]
    assert len(set(found)) == len(rows)
    if order.column != "company_name":  # of the database's locale
        assert values == sorted(values, reverse=order.startswith("-"))


async def test_a_free_filter_counts_to_ten_thousand(viewer, rows, count_to):
    count_to(10)

    pagination = (await viewer.get(CANDIDATES, params={"trucks_min": 1, "limit": 5})).json()["pagination"]
    few = (await viewer.get(CANDIDATES, params={"q": rows[0]["contact_email"]})).json()["pagination"]

    assert pagination.items() >= {"total": 10, "total_is_exact": False, "total_pages": None}.items()
    assert pagination["next_cursor"]
    assert few.items() >= {"total": 1, "total_pages": 1, "next_cursor": None}.items()


@pytest.mark.parametrize("more", [0, 1])
async def test_the_total_is_exact_up_to_the_limit_and_not_beyond(viewer, rows, count_to, more):
    count = sum(row["truck_count"] >= 4 for row in rows)
    count_to(count - more)

    pagination = (await viewer.get(CANDIDATES, params={"trucks_min": 4})).json()["pagination"]

    assert (pagination["total"], pagination.get("total_is_exact", True)) == (count - more, not more)


async def test_the_total_without_free_filters_is_as_before(viewer, rows):
    pagination = (await viewer.get(CANDIDATES, params={"status": "pending", "sort": "-truck_count"})).json()[
        "pagination"
    ]

    assert pagination["total"] == sum(row["status"] == "pending" for row in rows)
    assert "total_is_exact" not in pagination


@pytest.mark.parametrize("order", [order for order in Order if order is not Order.RELEVANCE])
async def test_a_cursor_is_refused_with_another_order(viewer, rows, order):
    page = (await viewer.get(CANDIDATES, params={"sort": order, "limit": 1})).json()

    for other in Order:
        parameters = {"sort": other, "limit": 1, "cursor": page["pagination"]["next_cursor"]}
        response = await viewer.get(CANDIDATES, params=parameters)
        codes = [error["code"] for error in response.json().get("errors", [])]
        assert (response.status_code, codes) == ((200, []) if other is order else (422, ["combination"]))


@pytest.mark.parametrize(
    "parameters",
    [
        {"sort": "relevance"},
        {"q": "sol", "cursor": "A" * 32},
        {"q": ""},
        {"q": "x" * 101},
        {"capacity_min": 0},
        {"capacity_max": 2**31},
        {"trucks_min": "many"},
        {"registered_from": "2026-01-01"},
        {"decided_to": "0001-01-01T00:00:00+23:00"},
        {"decided_by": "me"},
        {"contact_email": "x"},
        {"sort": "phone"},
        {"sort": "-relevance"},
        {"sort": "truck_count", "cursor": "truck_count." + "A" * 400},
        {"sort": "company_name", "cursor": "company_name.AAAAAAAAAAAAAAAAAAAAAAA="},
    ],
)
async def test_what_is_no_filter_order_or_cursor_is_refused(viewer, parameters):
    assert (await viewer.get(CANDIDATES, params=parameters)).status_code == 422


@pytest.mark.parametrize(
    "position",
    [
        ListPosition(Order.NEWEST, BEGUN, uuid4()),
        ListPosition(Order.OLDEST, BEGUN, uuid4()),
        ListPosition(Order.LAST_CHANGED, BEGUN, uuid4()),
        ListPosition(Order.LARGEST, 2**31 - 1, uuid4()),
        ListPosition(Order.FIRST_NAME, "Ромашка " * 31, uuid4()),
        ListPosition(Order.RELEVANCE, 50, UUID(int=0)),
    ],
)
def test_a_position_is_decoded_from_its_cursor(position):
    assert ListPosition.from_cursor(position.to_cursor()) == position


async def test_the_list_by_relevance_has_the_best_two_hundred(viewer, browsing, rows, monkeypatch):
    monkeypatch.setattr(search, "MAX_RELEVANT", 10)
    selection = Selection(words="example", order=Order.RELEVANCE)

    body = (await viewer.get(CANDIDATES, params={"q": "example", "limit": 4})).json()
    last = (await viewer.get(CANDIDATES, params={"q": "example", "offset": 8})).json()

    assert body["pagination"].items() >= {"total": ROWS, "total_pages": 3, "next_cursor": None}.items()
    assert (len(body["candidates"]), len(last["candidates"])) == (4, 2)
    assert set(await exported(browsing, selection)) == {row["id"] for row in rows}
    assert set(await frozen(browsing, selection)) == {row["id"] for row in rows}


async def test_ids_of_candidates_and_providers_are_found(viewer, rows):
    approved = next(row for row in rows if row["provider_id"])

    for words in (str(approved["id"]), str(approved["provider_id"])):
        found = (await viewer.get(CANDIDATES, params={"q": words})).json()["candidates"]
        assert found[0]["candidate_id"] == str(approved["id"])
        pending = (await viewer.get(CANDIDATES, params={"q": words, "status": "pending"})).json()["candidates"]
        assert str(approved["id"]) not in {one["candidate_id"] for one in pending}


async def test_a_typing_error_is_found_after_the_keys_are_filled(viewer, browsing, rows):
    await filler_of_keys(browsing._database).fill()
    expected = {row["id"] for row in rows if "Huerta" in row["company_name"] and "Citrus" in row["company_name"]}

    selection = Selection(words="huetra citrsu", order=Order.NEWEST)

    assert expected
    assert set((await listed(viewer, selection))[0]) == expected
    assert set(await exported(browsing, selection)) == expected
    for status in Status:
        wanted = {row["id"] for row in rows if row["id"] in expected and row["status"] == status}
        assert set((await listed(viewer, replace(selection, status=status)))[0]) == wanted


def test_a_selection_is_kept_as_json():
    selection = Selection(
        status=Status.PENDING,
        product=Product.APPLES,
        words="sol",
        registered_from=BEGUN,
        decided_by=uuid4(),
        trucks_min=3,
        order=Order.LARGEST,
    )

    kept = selection.to_json()

    assert Selection.from_json(kept) == selection
    assert kept["registered_from"] == "2026-01-01T00:00:00Z"
    assert Selection.from_json({}) == Selection()
    with pytest.raises(ValidationError):
        Selection.from_json(kept | {"of_a_later_release": 1})


def test_every_filter_of_the_console_is_one_of_the_selection():
    query = CandidatesQuery(
        status="all", registered_to="2026-01-31", decided_from="2026-02-01", trucks_max=4, order="newest"
    )

    assert query.selection == Selection(
        registered_to=datetime(2026, 2, 1, tzinfo=UTC),
        decided_from=datetime(2026, 2, 1, tzinfo=UTC),
        trucks_max=4,
        order=Order.NEWEST,
    )
