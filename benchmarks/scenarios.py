"""The requests that each contender gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from benchmarks.contenders import Running
from benchmarks.database import places_at, row_id
from provider_registration.web.pagination import Position

IDS = 10_000  # of the rows that are read by id
PLACES = 200  # deep pages to choose from
DEPTH = 0.9  # share of the rows before them
PAGE = 20  # rows
REGISTRATION = (
    '{"company_name": "Huerta UNIQUE S.L.", "contact_email": "bench-UNIQUE@example.com", "phone": "+34 963 555 017", '
    '"products": ["oranges", "grapes"], "truck_count": 12, "capacity_tons_per_day": 80, "location": "Valencia, Spain"}'
)
REJECTION = '{"reason": "No cold chain"}'
CANDIDATE_FIELDS = frozenset(
    {
        *("candidate_id", "status", "company_name", "contact_email", "phone", "products", "truck_count"),
        *("capacity_tons_per_day", "location", "created_at", "updated_at", "provider_id", "version"),
        *("rejection_reason", "approval"),
    }
)
PAGE_FIELDS = frozenset({"candidates", "pagination"})
DECISION_FIELDS = frozenset({"candidate_id", "status"})

Paths = Callable[[Running], Awaitable[list[str]]]


@dataclass(frozen=True)
class Scenario:
    """One kind of request, sent over so many connections.

    `paths` gives the paths that are asked one after the other, over and over. `decision` is the last word of the path
    of a decision instead: each needs a pending candidate of its own. With neither, companies register.
    """

    name: str
    title: str
    connections: int
    paths: Paths | None = None
    decision: str = ""
    body: str | None = None
    status: int = 200
    repeated: int = 0  # the status of the same request when repeated, if it changes data
    fields: frozenset[str] = PAGE_FIELDS
    large: bool = False  # whether the large table is measured too
    open: bool = False  # whether it is measured without authentication too

    @property
    def writes(self) -> bool:
        """Whether it changes data."""
        return self.paths is None


async def _live(_running: Running) -> list[str]:
    return ["/health/live"]


async def _by_id(running: Running) -> list[str]:
    numbers = Random(1).choices(range(1, running.around.pair.rows + 1), k=IDS)  # noqa: S311 - no secret
    return [f"/candidates/{row_id(number)}" for number in numbers]


def _list(query: str = "") -> Paths:
    async def paths(_running: Running) -> list[str]:
        return [f"/candidates?limit={PAGE}{query}"]

    return paths


async def _deep(running: Running) -> list[str]:
    """Pages around 90 % of the way: ours by cursor, the peers' by offset."""
    first = int(DEPTH * running.around.pair.rows)
    if not running.contender.is_ours:
        return [f"/candidates?limit={PAGE}&offset={first + number}" for number in range(PLACES)]
    places = await places_at(running.database_url, first, PLACES)
    return [f"/candidates?limit={PAGE}&cursor={Position(at, id_).to_cursor()}" for at, id_ in places]


ALL = (
    Scenario("live_16", "cheapest route, 16", 16, _live, fields=frozenset({"status"})),
    Scenario("get_16", "get by ID, 16", 16, _by_id, fields=CANDIDATE_FIELDS, large=True, open=True),
    Scenario("get_64", "get by ID, 64", 64, _by_id, fields=CANDIDATE_FIELDS),
    Scenario("list_16", "first page, 16", 16, _list(), large=True, open=True),
    Scenario("list_64", "first page, 64", 64, _list()),
    Scenario("status_16", "page of a status, 16", 16, _list("&status=pending"), large=True),
    Scenario("common_16", "page of a common product, 16", 16, _list("&product=apples"), large=True),
    Scenario("rare_16", "page of a rare product, 16", 16, _list("&product=mangoes"), large=True),
    Scenario("deep_16", "page at 90% depth, 16", 16, _deep, large=True),
    Scenario("register_16", "register, 16", 16, body=REGISTRATION, status=201, repeated=409, fields=CANDIDATE_FIELDS),
    Scenario("register_64", "register, 64", 64, body=REGISTRATION, status=201, repeated=409, fields=CANDIDATE_FIELDS),
    Scenario("reject_16", "reject, 16", 16, decision="reject", body=REJECTION, repeated=400, fields=DECISION_FIELDS),
    Scenario("approve_16", "approve, 16", 16, decision="approve", repeated=400, fields=DECISION_FIELDS),
)
