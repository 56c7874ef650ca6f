"""The list of candidates, with filters, order and columns, and its export as a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.audit.models import AuditEvent, AuditType
from provider_registration.candidates.company import LABELS, NUMBERS, Product
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.search import Order, Selection
from provider_registration.console.decisions import MAX_SELECTED
from provider_registration.console.dependencies import BrowserUserDep
from provider_registration.console.exports import WRITERS
from provider_registration.console.layout import CANDIDATES, EmptyIsAbsent, LayoutDep, safe_target
from provider_registration.pages.cookies import read_cookie, set_cookie
from provider_registration.pages.forms import FormDep
from provider_registration.web.head_requests import HeadersOnly, no_parts
from provider_registration.web.pagination import Cursor, Position
from provider_registration.web.text import Text

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 50
MAX_SEARCH_LENGTH = 100
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


class CandidatesQuery(BaseModel):
    """The query parameters of the list. Without a status, it shows pending candidates."""

    status: Annotated[Status | Literal["all"] | None, EmptyIsAbsent] = None
    product: Annotated[Product | None, EmptyIsAbsent] = None
    order: Annotated[Order | None, EmptyIsAbsent] = None
    search: Annotated[str, Text(MAX_SEARCH_LENGTH)] = ""
    after: Cursor | None = None

    @property
    def shown_status(self) -> Status | Literal["all"]:
        """The status that is shown; pending by default."""
        return self.status or Status.PENDING

    @property
    def selection(self) -> Selection:
        """The filter; pending candidates are listed oldest first by default, all others newest first."""
        status = None if self.shown_status == "all" else Status(self.shown_status)
        default = Order.OLDEST if status is Status.PENDING else Order.NEWEST
        return Selection(
            status=status,
            product=self.product,
            words=self.search,
            order=self.order or default,
        )

    @property
    def position(self) -> Position | None:
        """Where the previous page ended."""
        return Position.from_cursor(self.after) if self.after else None

    def exported(self, kind: str) -> dict[str, object]:
        """What an export's event says: no search words, which may name a person."""
        filters = {"product": self.product, "filters": ["search"] if self.search else None}
        return {"format": kind, "status": self.shown_status, **{name: each for name, each in filters.items() if each}}

    def query_string(self, **changes: object) -> str:
        """The query string of the same list with some changes; without `after`, its first page."""
        values = {**self.model_dump(exclude={"after"}, mode="json"), **changes}
        return urlencode({name: value for name, value in values.items() if value})


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
    found = await service.browsing.page(query.selection, limit=PAGE_SIZE, after=query.position)
    counts = await service.browsing.counts(query.product)
    return layout.page(
        "candidates.html",
        query=query,
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
