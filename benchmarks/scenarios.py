"""The requests that each contender gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random

from benchmarks.contenders import Running
from benchmarks.database import places_at, row_id
from provider_registration.web.pagination import Position

IDS = 10_000  # of the rows that are read by id
PLACES = 200  # deep pages to choose from
DEPTH = 0.9  # share of the rows before them
PAGE = 20  # rows
CONNECTIONS = (1, 4, 16, 64)
MIDDLE = 16  # connections
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

    kind: str
    words: str  # that name it in reports
    connections: int
    paths: Paths | None = None
    decision: str = ""
    body: str | None = None
    status: int = 200
    repeated: int = 0  # the status of the same request when repeated, if it changes data
    fields: frozenset[str] = PAGE_FIELDS
    large: bool = False  # whether the large table is measured too
    open: bool = False  # whether it is measured without authentication too
    quick: bool = False  # whether it is in a quick run

    @property
    def name(self) -> str:
        """Its name on the command line and in results."""
        return f"{self.kind}_{self.connections}"

    @property
    def title(self) -> str:
        """As in reports."""
        return f"{self.words}, {self.connections}"

    @property
    def is_public(self) -> bool:
        """Whether it is sent without a token: companies that register have none."""
        return self.writes and not self.decision

    @property
    def writes(self) -> bool:
        """Whether it changes data."""
        return self.paths is None


async def _live(_running: Running) -> list[str]:
    return ["/health/live"]


async def _by_id(running: Running) -> list[str]:
    numbers = Random(1).choices(range(1, running.around.databases.rows + 1), k=IDS)  # noqa: S311 - no secret
    return [f"/candidates/{row_id(number)}" for number in numbers]


def _list(query: str = "") -> Paths:
    async def paths(_running: Running) -> list[str]:
        return [f"/candidates?limit={PAGE}{query}"]

    return paths


async def _deep(running: Running) -> list[str]:
    """Pages around 90 % of the way: by cursor in our schema, by offset in the peers'."""
    first = int(DEPTH * running.around.databases.rows)
    if not running.contender.has_our_schema:
        return [f"/candidates?limit={PAGE}&offset={first + number}" for number in range(PLACES)]
    places = await places_at(running.database_url, first, PLACES)
    return [f"/candidates?limit={PAGE}&cursor={Position(at, id_).to_cursor()}" for at, id_ in places]


LIVE = Scenario("live", "cheapest route", 16, _live, fields=frozenset({"status"}))
GET = Scenario("get", "get by ID", 16, _by_id, fields=CANDIDATE_FIELDS)
LIST = Scenario("list", "first page", 16, _list())
STATUS = Scenario("status", "page of a status", 16, _list("&status=pending"), large=True)
COMMON = Scenario("common", "page of a common product", 16, _list("&product=apples"), large=True)
RARE = Scenario("rare", "page of a rare product", 16, _list("&product=mangoes"), large=True)
DEEP = Scenario("deep", "page at 90% depth", 16, _deep, large=True, quick=True)
REGISTER = Scenario("register", "register", 16, body=REGISTRATION, status=201, repeated=409, fields=CANDIDATE_FIELDS)
REJECT = Scenario("reject", "reject", 16, decision="reject", body=REJECTION, repeated=400, fields=DECISION_FIELDS)
APPROVE = Scenario("approve", "approve", 16, decision="approve", repeated=400, fields=DECISION_FIELDS)


def _over(scenario: Scenario, *numbers: int) -> list[Scenario]:
    """The same over these numbers of connections; over 16 it is also measured elsewhere."""
    is_read = scenario in (GET, LIST)
    return [
        replace(
            scenario,
            connections=number,
            large=is_read and number == MIDDLE,
            open=is_read and number == MIDDLE,
            quick=number >= MIDDLE,
        )
        for number in numbers
    ]


ALL = (
    *_over(LIVE, *CONNECTIONS),
    *_over(GET, *CONNECTIONS),
    *_over(LIST, 16, 64),
    *(STATUS, COMMON, RARE, DEEP),
    *_over(REGISTER, *CONNECTIONS),
    *_over(REJECT, *CONNECTIONS),
    *_over(APPROVE, *CONNECTIONS),
)
