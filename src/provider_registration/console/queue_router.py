"""The list of candidates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from provider_registration.candidates.company import Product
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import Candidate, Status
from provider_registration.console import paths
from provider_registration.console.bulk import MOST
from provider_registration.console.dependencies import BrowserUserDep, OwnFormDep
from provider_registration.console.exports import as_csv, as_json, as_xlsx
from provider_registration.console.navigation import own_page
from provider_registration.console.queue import COLUMNS, PAGE_SIZE, Columns, QueueQuery
from provider_registration.console.workbooks import MEDIA_TYPE as XLSX
from provider_registration.pages.cookies import read_cookie, set_cookie
from provider_registration.pages.router import RendererDep

router = APIRouter(include_in_schema=False)

COLUMNS_COOKIE = "columns"
A_YEAR = 365 * 24 * 3600  # seconds


@router.get(paths.CANDIDATES)
async def list_candidates(
    query: Annotated[QueueQuery, Query()],
    signed_in: BrowserUserDep,
    service: CandidateServiceDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Those who wait, oldest first, or whom the address asks for."""
    found = await service.browsing.page(query.selection, limit=PAGE_SIZE, after=query.place)
    counts = await service.browsing.counts(query.product)
    return own_page(
        renderer,
        request,
        "queue.html",
        signed_in,
        query=query,
        found=found,
        counts=counts,
        total=sum(counts.values()),
        columns=Columns.from_text(read_cookie(request, COLUMNS_COOKIE)),
        all_columns=COLUMNS,
        statuses=list(Status),
        products=list(Product),
        most_marked=MOST,
        can_mark=signed_in.may_decide and any(_is_open(candidate) for candidate in found.candidates),
        is_open=_is_open,
        next_page=found.next and query.address(after=found.next.to_cursor()),
    )


@router.get(f"{paths.CANDIDATES}/export.{{kind}}")
async def export(
    kind: Literal["csv", "xlsx", "json"],
    query: Annotated[QueueQuery, Query()],
    _signed_in: BrowserUserDep,
    service: CandidateServiceDep,
) -> Response:
    """Everybody whom the same list would show, as a file."""
    candidates = service.browsing.all(query.selection)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    headers = {"Content-Disposition": f'attachment; filename="candidates-{query.shown_status}-{day}.{kind}"'}
    if kind == "csv":
        return StreamingResponse(as_csv(candidates), headers=headers, media_type="text/csv")
    if kind == "xlsx":
        return StreamingResponse(as_xlsx(candidates), headers=headers, media_type=XLSX)
    return StreamingResponse(as_json(candidates), headers=headers, media_type="application/json")


@router.post(f"{paths.CANDIDATES}/columns")
async def choose_columns(form: OwnFormDep, request: Request) -> Response:
    """Remember which columns are shown, in this browser."""
    target = paths.own_page(f"{paths.CANDIDATES}?{form.get('list')}")
    response = RedirectResponse(request.scope.get("root_path", "") + target, 303)
    set_cookie(response, COLUMNS_COOKIE, Columns.of(form.all("column")).to_text(), seconds=A_YEAR)
    return response


def _is_open(candidate: Candidate) -> bool:
    """Whether it can be decided as it stands."""
    return candidate.status is Status.PENDING and candidate.approval is None
