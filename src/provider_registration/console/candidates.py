"""The list of candidates, with filters, order and columns, and its export as a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from provider_registration.activity.dependencies import ActivityServiceDep
from provider_registration.activity.service import ActivityService
from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.audit.models import AuditEvent, AuditType
from provider_registration.candidates.company import LABELS, MAX_INTEGER, NUMBERS, Product
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.exports import WRITERS
from provider_registration.candidates.list_queries import MAX_TOTAL
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.search import MAX_RELEVANT, Found
from provider_registration.candidates.selection import Order
from provider_registration.console.decisions import MAX_SELECTED
from provider_registration.console.dependencies import BrowserUserDep
from provider_registration.console.layout import CANDIDATES, LIST_COOKIE, LayoutDep, safe_target
from provider_registration.console.list_query import CandidatesQuery
from provider_registration.pages.cookies import read_cookie, set_cookie
from provider_registration.pages.forms import FormDep
from provider_registration.web.head_requests import HeadersOnly, no_parts

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 50
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
ORDERS = {
    Order.OLDEST: "Oldest first",
    Order.NEWEST: "Newest first",
    Order.FIRST_NAME: "Company, A to Z",
    Order.LAST_NAME: "Company, Z to A",
    Order.LARGEST: "Largest capacity",
    Order.SMALLEST: "Smallest capacity",
    Order.MOST_TRUCKS: "Most trucks",
    Order.FEWEST_TRUCKS: "Fewest trucks",
    Order.LAST_CHANGED: "Changed last",
    Order.FIRST_CHANGED: "Changed first",
}
DAY_FILTERS = {
    "registered_from": "Registered from",
    "registered_to": "Registered to",
    "decided_from": "Decided from",
    "decided_to": "Decided to",
}
NUMBER_FILTERS = {
    "capacity_min": "Tonnes per day from",
    "capacity_max": "Tonnes per day to",
    "trucks_min": "Trucks from",
    "trucks_max": "Trucks to",
}
DEFAULT_COLUMNS = ("location", "products", "truck_count", "capacity_tons_per_day", "registered", "status")


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
    activity: ActivityServiceDep,
    layout: LayoutDep,
    request: Request,
) -> Response:
    """Show pending candidates, oldest first, or those that the query selects; other pages lead back to this list."""
    found = await service.browsing.page(query.selection, limit=PAGE_SIZE, after=query.position)
    counts = await service.browsing.counts(query.product)
    total_matching = counts[Status.PENDING] if query.selection.is_counted else found.total
    may_decide_all = query.shown_status is Status.PENDING and total_matching != len(found.candidates)
    response = layout.page(
        "candidates.html",
        query=query,
        matching=json.dumps(query.selection.to_json()) if may_decide_all else None,
        total_matching=total_matching,
        found=found,
        counts=counts,
        total=sum(counts.values()),
        count_text=_count_text(query, found, counts),
        orders=ORDERS,
        day_filters=DAY_FILTERS,
        number_filters=NUMBER_FILTERS,
        max_number=MAX_INTEGER,
        deciders=await _deciders(query, activity),
        views=_views(datetime.now(UTC).date()),
        columns=Columns.from_text(read_cookie(request, COLUMNS_COOKIE)),
        all_columns=COLUMNS,
        statuses=list(Status),
        products=list(Product),
        max_selected=MAX_SELECTED,
        can_select=signed_in.may_decide and any(_is_open(candidate) for candidate in found.candidates),
        is_open=_is_open,
        next_page=found.next and query.query_string(after=found.next.to_cursor()),
    )
    set_cookie(response, LIST_COOKIE, query.query_string(after=query.after))
    return response


def _count_text(query: CandidatesQuery, found: Found, counts: dict[Status, int]) -> str:
    """The number of candidates in the list, on all its pages."""
    number = found.total
    if query.are_counts_shown:
        number = sum(counts.values()) if query.shown_status == "all" else counts[query.shown_status]
    text = f"More than {MAX_TOTAL:,} candidates" if number is None else f"{number:,} candidate{'s' * (number != 1)}"
    if query.shown_order is Order.RELEVANCE and (number is None or number > MAX_RELEVANT):
        return f"The best {MAX_RELEVANT} of {text[0].lower()}{text[1:]}. Sort by a column to see all."
    return text


async def _deciders(query: CandidatesQuery, activity: ActivityService) -> dict[UUID, str]:
    """The users to choose from, by ID, and whoever the query names."""
    named = {query.decided_by: str(query.decided_by)} if query.decided_by else {}
    return named | await activity.actors()


def _views(today: date) -> dict[str, str]:
    """Lists that are often needed: the name and the query string of each."""
    week = today - timedelta(days=6)
    views: dict[str, dict[str, object]] = {
        "Waiting longest": {"status": Status.PENDING, "order": Order.OLDEST},
        "Largest pending": {"status": Status.PENDING, "order": Order.LARGEST},
        "New this week": {"status": "all", "registered_from": week, "order": Order.NEWEST},
        "Decided this week": {"status": "all", "decided_from": week, "order": Order.LAST_CHANGED},
    }
    return {name: urlencode(view) for name, view in views.items()}


@router.get(f"{CANDIDATES}/export.{{kind}}")
async def export(
    kind: Literal["csv", "xlsx", "json", "jsonl"],
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
    return StreamingResponse(write(service.browsing.lines(query.selection)), headers=headers, media_type=media_type)


@router.post(f"{CANDIDATES}/columns")
async def choose_columns(layout: LayoutDep, form: FormDep) -> Response:
    """Remember the selected columns in this browser."""
    response = layout.redirect(safe_target(f"{CANDIDATES}?{form.get('list')}"))
    set_cookie(response, COLUMNS_COOKIE, Columns.of(form.all("column")).to_text(), seconds=A_YEAR)
    return response


def _is_open(candidate: Candidate) -> bool:
    """Whether it can be decided now."""
    return candidate.status is Status.PENDING and candidate.approval is None
