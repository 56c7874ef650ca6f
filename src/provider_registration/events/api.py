"""The route that lists a candidate's events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from provider_registration.auth.dependencies import StaffDep
from provider_registration.candidates.dependencies import CandidateId
from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.candidates.links import CANDIDATES
from provider_registration.events.dependencies import EventServiceDep
from provider_registration.events.schemas import EXAMPLE_EVENTS, EventListResponse, EventQuery
from provider_registration.web.openapi import EXAMPLE_ID, links, refuses, success
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.preconditions import LIST_HEADERS, RevalidationDep, not_modified
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, direct

router = APIRouter(tags=["candidates"], route_class=Route)


@router.get(
    f"{CANDIDATES}/{{candidate_id}}/events",
    summary="List the events of a candidate",
    response_model=EventListResponse,
    responses=success(
        200,
        "Some events, newest first",
        EXAMPLE_EVENTS,
        LIST_HEADERS,
        links("list_candidate_events", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    )
    | not_modified(LIST_HEADERS),
)
@refuses(
    CandidateNotFound(EXAMPLE_ID), InvalidRequest.at("query", "limit", "Input should be less than or equal to 100")
)
@direct
async def list_candidate_events(
    candidate_id: CandidateId,
    query: Annotated[EventQuery, Query()],
    service: EventServiceDep,
    user: StaffDep,
    _once: ParametersOnce,
    revalidation: RevalidationDep,
) -> Response:
    """List what happened to the candidate: who did what, and when."""
    page = await service.of_candidate(candidate_id, limit=query.limit, before=query.cursor)
    return revalidation.respond(EventListResponse.of(page, with_errors=user.may_audit).model_dump_json())
