"""The route that exports candidates as a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response, StreamingResponse

from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.audit.models import AuditEvent, AuditType
from provider_registration.auth.dependencies import StaffDep
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.exports import FIELDS, WRITERS
from provider_registration.candidates.links import CANDIDATES
from provider_registration.candidates.schemas import ExportQuery
from provider_registration.web.head_requests import HeadersOnly, no_parts
from provider_registration.web.openapi import refuses
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route

router = APIRouter(tags=["candidates"], route_class=Route)

Kind = Annotated[Literal["csv", "xlsx", "json", "jsonl"], Path(description="The format: `jsonl` has one object a line")]
FILE = {"schema": {"type": "string", "format": "binary"}, "example": ""}
CONTENT = {media_type: FILE for _, media_type in WRITERS.values()} | {
    "text/csv": {"schema": {"type": "string"}, "example": f"{','.join(FIELDS)}\r\n"},
    "application/json": {"schema": {"type": "array", "items": {"type": "object"}}, "example": []},
}


@router.get(
    f"{CANDIDATES}.{{kind}}",
    summary="Export candidates",
    response_class=Response,
    responses={200: {"description": "Every candidate that matches, as a file", "content": CONTENT}},
)
@refuses(InvalidRequest.at("path", "kind", "Input should be 'csv', 'xlsx', 'json' or 'jsonl'"))
async def export_candidates(
    kind: Kind,
    query: Annotated[ExportQuery, Query()],
    service: CandidateServiceDep,
    log: AuditLogDep,
    user: StaffDep,
    headers_only: HeadersOnly,
    _once: ParametersOnce,
) -> Response:
    """Every candidate that `GET /candidates` finds with the same filters, as a file. The export is recorded."""
    write, media_type = WRITERS[kind]
    headers = {"Content-Disposition": f'attachment; filename="candidates-{datetime.now(UTC):%Y-%m-%d}.{kind}"'}
    if headers_only:
        return StreamingResponse(no_parts(), headers=headers, media_type=media_type)
    about: dict[str, object] = {"format": kind} | ({"filters": query.names} if query.names else {})
    await log.record(AuditEvent(AuditType.CANDIDATES_EXPORTED, user.actor, data=about))
    return StreamingResponse(write(service.browsing.lines(query.selection)), headers=headers, media_type=media_type)
