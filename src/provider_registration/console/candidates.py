"""The list of candidates, with filters, order and columns, and its export as a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, Field
from starlette.responses import Response, StreamingResponse

from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.audit.models import AuditEvent, AuditType
from provider_registration.candidates.company import LABELS, MAX_INTEGER, NUMBERS, Product
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.schemas import PlaceCursor
from provider_registration.candidates.selection import MAX_WORDS_LENGTH, Order, Place, Selection
from provider_registration.console.decisions import MAX_SELECTED
from provider_registration.console.dependencies import BrowserUserDep
from provider_registration.console.exports import WRITERS
from provider_registration.console.layout import CANDIDATES, EmptyIsAbsent, LayoutDep, safe_target
from provider_registration.pages.cookies import read_cookie, set_cookie
from provider_registration.pages.forms import FormDep
from provider_registration.web.head_requests import HeadersOnly, no_parts
from provider_registration.web.text import Text

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 50
Day = Annotated[date | None, EmptyIsAbsent]
Number = Annotated[int | None, Field(ge=1, le=MAX_INTEGER), EmptyIsAbsent]
COLUMNS_COOKIE = "columns"
A_YEAR = 365 * 24 * 3600  # seconds

# By name in forms: the heading of each column, and whether it holds numbers. The company is always shown.
COLUMNS = {
    "status": ("Status", False),
    **{fact: (label, fact in NUMBERS) for fact, label in LABELS.items() if fact != "company_name"},
    "capacity_tons_per_day": ("Tonnes per day", True),
    "registered": ("Registered", False),
    "decided": ("Decided", False),
    "provider": ("Provider", True),
}
DEFAULT_COLUMNS = ("location", "products", "truck_count", "capacity_tons_per_day", "registered", "status")


# Of URLs that were saved before there were more orders.
OLDER_ORDERS = {"oldest": Order.OLDEST, "newest": Order.NEWEST}
SavedOrder = BeforeValidator(lambda value: OLDER_ORDERS.get(value, value) if isinstance(value, str) else value)


class CandidatesQuery(BaseModel):
    """The query parameters of the list; days are in UTC, and both are included.

    Without a status, it shows pending candidates.
    """

    status: Annotated[Status | Literal["all"] | None, EmptyIsAbsent] = None
    product: Annotated[Product | None, EmptyIsAbsent] = None
    registered_from: Day = None
    registered_to: Day = None
    decided_from: Day = None
    decided_to: Day = None
    capacity_min: Number = None
    capacity_max: Number = None
    trucks_min: Number = None
    trucks_max: Number = None
    decided_by: Annotated[UUID | None, EmptyIsAbsent] = None
    order: Annotated[Order | None, SavedOrder, EmptyIsAbsent] = None
    search: Annotated[str, Text(MAX_WORDS_LENGTH)] = ""
    after: PlaceCursor | None = None

    @property
    def shown_status(self) -> Status | Literal["all"]:
        """The status that is shown; pending by default."""
        return self.status or Status.PENDING

    @property
    def shown_order(self) -> Order:
        """The order: with words by relevance; otherwise pending candidates oldest first, all others newest first."""
        if self.order and (self.search or self.order is not Order.RELEVANCE):
            return self.order
        if self.search:
            return Order.RELEVANCE
        return Order.OLDEST if self.shown_status is Status.PENDING else Order.NEWEST

    @property
    def selection(self) -> Selection:
        """The filters and the order."""
        return Selection(
            status=None if self.shown_status == "all" else Status(self.shown_status),
            product=self.product,
            words=self.search,
            registered_from=_midnight(self.registered_from),
            registered_to=_midnight_after(self.registered_to),
            decided_from=_midnight(self.decided_from),
            decided_to=_midnight_after(self.decided_to),
            capacity_min=self.capacity_min,
            capacity_max=self.capacity_max,
            trucks_min=self.trucks_min,
            trucks_max=self.trucks_max,
            decided_by=self.decided_by,
            order=self.shown_order,
        )

    @property
    def place(self) -> Place | None:
        """Where the previous page ended; None if the cursor is of another order."""
        place = Place.from_cursor(self.after) if self.after else None
        if place and place.order is Order.NEWEST and self.shown_order is Order.OLDEST:
            return replace(place, order=Order.OLDEST)  # a cursor of an earlier release, which has no order
        return place if place and place.order is self.shown_order else None

    @property
    def own_filters(self) -> dict[str, object]:
        """The filters that are set, beside the status, as in the query string."""
        exclude = {"status", "order", "after"}
        return {name: each for name, each in self.model_dump(exclude=exclude, mode="json").items() if each}

    @property
    def are_counts_shown(self) -> bool:
        """Whether the counts of statuses are those of the list: they know no other filter than the product."""
        return self.own_filters.keys() <= {"product"}

    def exported(self, kind: str) -> dict[str, object]:
        """What an export's event says: no search words, which may name a person."""
        others = sorted(self.own_filters.keys() - {"product"})
        filters = {"product": self.product, "filters": others}
        return {"format": kind, "status": self.shown_status, **{name: each for name, each in filters.items() if each}}

    def query_string(self, **changes: object) -> str:
        """The query string of the same list with some changes; without `after`, its first page."""
        values = {**self.model_dump(exclude={"after"}, mode="json"), **changes}
        return urlencode({name: value for name, value in values.items() if value})


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time.min, UTC) if day else None


def _midnight_after(day: date | None) -> datetime | None:
    return _midnight(day + timedelta(days=1)) if day and day < date.max else None


@dataclass(frozen=True, slots=True)
class Columns:
    """The selected columns, in the order of COLUMNS."""

    names: tuple[str, ...]

    @classmethod
    def from_text(cls, text: str | None) -> Columns:
        """Read the value of a cookie; unknown names are left out."""
        return cls.of(text.split("-")) if text is not None else cls.of(DEFAULT_COLUMNS)

    @classmethod
    def of(cls, names: list[str] | tuple[str, ...]) -> Columns:
        """The columns among some names."""
        return cls(tuple(name for name in COLUMNS if name in names))

    def to_text(self) -> str:
        """The value of the cookie."""
        return "-".join(self.names)


@router.get(CANDIDATES)
async def list_candidates(
    query: Annotated[CandidatesQuery, Query()],
    signed_in: BrowserUserDep,
    service: CandidateServiceDep,
    layout: LayoutDep,
    request: Request,
) -> Response:
    """Show pending candidates, oldest first, or those that the query selects."""
    found = await service.browsing.page(query.selection, limit=PAGE_SIZE, after=query.place)
    counts = await service.browsing.counts(query.product)
    total_matching = counts[Status.PENDING] if query.selection.is_counted else found.total
    may_decide_all = query.shown_status is Status.PENDING and total_matching != len(found.candidates)
    return layout.page(
        "candidates.html",
        query=query,
        matching=json.dumps(query.selection.to_json()) if may_decide_all else None,
        total_matching=total_matching,
        found=found,
        counts=counts,
        total=sum(counts.values()),
        columns=Columns.from_text(read_cookie(request, COLUMNS_COOKIE)),
        all_columns=COLUMNS,
        statuses=list(Status),
        products=list(Product),
        max_selected=MAX_SELECTED,
        can_select=signed_in.may_decide and any(_is_open(candidate) for candidate in found.candidates),
        is_open=_is_open,
        next_page=found.next and query.query_string(after=found.next.to_cursor()),
    )


@router.get(f"{CANDIDATES}/export.{{kind}}")
async def export(
    kind: Literal["csv", "xlsx", "json"],
    query: Annotated[CandidatesQuery, Query()],
    signed_in: BrowserUserDep,
    service: CandidateServiceDep,
    log: AuditLogDep,
    headers_only: HeadersOnly,
) -> Response:
    """Every candidate that the same list shows, as a file. The export is recorded first; HEAD is no export."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    headers = {"Content-Disposition": f'attachment; filename="candidates-{query.shown_status}-{day}.{kind}"'}
    write, media_type = WRITERS[kind]
    if headers_only:
        return StreamingResponse(no_parts(), headers=headers, media_type=media_type)
    await log.record(AuditEvent(AuditType.CANDIDATES_EXPORTED, signed_in.user.actor, data=query.exported(kind)))
    return StreamingResponse(write(service.browsing.all(query.selection)), headers=headers, media_type=media_type)


@router.post(f"{CANDIDATES}/columns")
async def choose_columns(layout: LayoutDep, form: FormDep) -> Response:
    """Remember the selected columns in this browser."""
    response = layout.redirect(safe_target(f"{CANDIDATES}?{form.get('list')}"))
    set_cookie(response, COLUMNS_COOKIE, Columns.of(form.all("column")).to_text(), seconds=A_YEAR)
    return response


def _is_open(candidate: Candidate) -> bool:
    """Whether it can be decided now."""
    return candidate.status is Status.PENDING and candidate.approval is None
