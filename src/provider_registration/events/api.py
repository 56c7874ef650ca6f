"""The route that lists a candidate's events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from provider_registration.auth.dependencies import StaffDep
from provider_registration.candidates.dependencies import CandidateId
from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.candidates.links import CANDIDATES
from provider_registration.events.dependencies import EventServiceDep
from provider_registration.events.schemas import EXAMPLE_EVENTS, EventListResponse, EventQuery
from provider_registration.web.links import page_links
from provider_registration.web.openapi import EXAMPLE_ID, link_header, links, refuses, success
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.preconditions import LIST_HEADERS, RevalidationDep, not_modified
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, direct

router = APIRouter(tags=["candidates"], route_class=Route)

EVENTS = f"{CANDIDATES}/{{candidate_id}}/events"
PAGE_HEADERS = LIST_HEADERS | link_header(EVENTS.format(candidate_id=EXAMPLE_ID))


@router.get(
    EVENTS,
    summary="List the events of a candidate",
    response_model=EventListResponse,
    responses=success(
        200,
        "Some events, newest first",
        EXAMPLE_EVENTS,
        PAGE_HEADERS,
        links("list_candidate_events", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    )
    | not_modified(PAGE_HEADERS),
)
@refuses(
    CandidateNotFound(EXAMPLE_ID),
    InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"),
)
@direct
async def list_candidate_events(
    candidate_id: CandidateId,
    query: Annotated[EventQuery, Query()],
    service: EventServiceDep,
    user: StaffDep,
    request: Request,
    _once: ParametersOnce,
    revalidation: RevalidationDep,
) -> Response:
    """List what happened to the candidate: who did what, and when."""
    page = await service.of_candidate(candidate_id, limit=query.limit, before=query.cursor)
    listed = EventListResponse.of(page, with_errors=user.may_audit)
    path = EVENTS.format(candidate_id=candidate_id)
    return revalidation.respond(
        listed.model_dump_json(), headers=page_links(request, path, query, listed.pagination.next_cursor)
    )
