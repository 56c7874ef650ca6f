"""The routes of both logs, read as one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from provider_registration.activity.dependencies import ActivityServiceDep
from provider_registration.activity.export import COLUMNS, export_as_csv
from provider_registration.activity.schemas import (
    EXAMPLE_ACTIVITY,
    ActivityFilterQuery,
    ActivityListResponse,
    ActivityQuery,
)
from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.auth.dependencies import AuditorDep
from provider_registration.web.head_requests import HeadersOnly
from provider_registration.web.links import page_links
from provider_registration.web.openapi import link_header, links, refuses, success
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route

router = APIRouter(tags=["audit"], route_class=Route)

AUDIT = "/audit"


@router.get(
    AUDIT,
    summary="List who did what",
    responses=success(
        200,
        "Some events, newest first",
        EXAMPLE_ACTIVITY,
        link_header(AUDIT),
        links=links("list_activity", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"))
async def list_activity(
    query: Annotated[ActivityQuery, Query()],
    service: ActivityServiceDep,
    _user: AuditorDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> ActivityListResponse:
    """List what happened to candidates and what staff did, newest first: who, what, to whom, and when."""
    page = await service.page(query.to_filter(), limit=query.limit, before=query.position)
    listed = ActivityListResponse.of(page)
    response.headers.update(page_links(request, AUDIT, query, listed.pagination.next_cursor))
    return listed


@router.get(
    "/audit.csv",
    summary="Export who did what",
    response_class=Response,
    responses={
        200: {
            "description": "Every event, newest first, as CSV with a header line",
            "content": {"text/csv": {"schema": {"type": "string"}, "example": f"{','.join(COLUMNS)}\r\n"}},
        }
    },
)
@refuses(InvalidRequest.at("query", "from", "Input should have timezone info"))
async def export_activity(
    query: Annotated[ActivityFilterQuery, Query()],
    service: ActivityServiceDep,
    log: AuditLogDep,
    user: AuditorDep,
    headers_only: HeadersOnly,
    _once: ParametersOnce,
) -> Response:
    """Every event that the same filters of `GET /audit` find, as CSV. The export is recorded as an event."""
    return await export_as_csv(query.to_filter(), service, log, actor=user.actor, headers_only=headers_only)
