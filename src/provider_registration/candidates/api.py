"""Routes for candidates."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status

from provider_registration.auth.dependencies import AdminDep, StaffDep
from provider_registration.candidates.company import EXAMPLE, REQUIRED
from provider_registration.candidates.dependencies import (
    CandidateId,
    CandidateServiceDep,
    RateLimitsDep,
    RegistrationBody,
    RejectionBody,
    key_of_decision,
)
from provider_registration.candidates.errors import (
    ApprovalInProgress,
    ApprovalNeedsResolution,
    ApprovalUnfinished,
    CandidateChanged,
    CandidateNotFound,
    CandidateNotPending,
    EmailTaken,
    VersionMismatch,
)
from provider_registration.candidates.links import CANDIDATES, candidate_url, status_links
from provider_registration.candidates.schemas import (
    EXAMPLE_CANDIDATE,
    EXAMPLE_STATUS_URL,
    CandidateListQuery,
    CandidateListResponse,
    CandidateRegistration,
    CandidateResponse,
    RegistrationResponse,
    RejectionRequest,
    RejectionResponse,
)
from provider_registration.idempotency.dependencies import (
    REPLAYED_HEADER,
    IdempotencyKey,
    replayed_header,
)
from provider_registration.web.links import page_links
from provider_registration.web.openapi import (
    EXAMPLE_ID,
    header,
    link_header,
    links,
    refuses,
    request_body,
    success,
)
from provider_registration.web.pagination import CursorPagination, Page
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.preconditions import (
    LIST_HEADERS,
    REVALIDATED_HEADERS,
    ExpectedVersions,
    RevalidationDep,
    etag,
    not_modified,
)
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.rate_limit_middleware import network_of_client
from provider_registration.web.routing import Route, direct, json_response

router = APIRouter(prefix=CANDIDATES, tags=["candidates"], route_class=Route)

ETAG_HEADER = header("ETag", "The candidate's version, for If-Match", '"1"')
RECORD_HEADERS = REVALIDATED_HEADERS | header(
    "ETag", "The candidate's version, with a hash of the body while an approval is unfinished", '"1"'
)
PAGE_HEADERS = LIST_HEADERS | link_header(CANDIDATES)
LOCATION_HEADER = header("Location", "The path of the candidate")
THIS_CANDIDATE = {"candidate_id": "$response.body#/candidate_id"}
THIS_VERSION = THIS_CANDIDATE | {"If-Match": "$response.header.ETag"}
EXAMPLE_PAGINATION = CursorPagination.at(Page(limit=20), 1, None, is_exact=True, shown=1)
FIRST_CANDIDATE = {"candidate_id": "$response.body#/candidates/0/candidate_id"}


@router.post(
    "",
    summary="Register a company",
    status_code=status.HTTP_201_CREATED,
    response_model=RegistrationResponse,
    responses=success(
        201,
        "Registered; an admin will decide",
        EXAMPLE_CANDIDATE | {"status_url": EXAMPLE_STATUS_URL},
        ETAG_HEADER | LOCATION_HEADER | REPLAYED_HEADER,
        links("get_candidate", parameters=THIS_CANDIDATE)
        | links("approve_candidate", "reject_candidate", parameters=THIS_VERSION),
    ),
    openapi_extra=request_body(
        (
            "application/json",
            CandidateRegistration,
            {"All fields": EXAMPLE, "Required fields only": {fact: EXAMPLE[fact] for fact in REQUIRED}},
        )
    ),
)
@refuses(
    EmailTaken(),
    InvalidRequest.at("body", "truck_count", "Input should be greater than or equal to 1", code="too-small"),
)
@direct
async def register_candidate(
    registration: RegistrationBody,
    service: CandidateServiceDep,
    limits: RateLimitsDep,
    request: Request,
    sent_key: IdempotencyKey,
) -> Response:
    """Register a supplier company. Open to everyone; returns the whole record, with status `pending`.

    `status_url` is returned only here, and only if public pages are on; `POST /candidates/{candidate_id}/status-link`
    replaces it. Anyone who has it can see the application.
    """
    await limits.count_registration(network_of_client(request))
    registered = await service.register(registration, language=registration.language, idempotency_key=sent_key)
    record = registered.record
    content = record.json
    if registered.status_secret:
        content = f"{content[:-1]},{json.dumps(status_links(request, registered.status_secret))[1:]}"
    headers = {"ETag": etag(record.version), "Location": candidate_url(request, record.candidate_id)}
    headers |= replayed_header(registered.is_replay)
    return json_response(content, status.HTTP_201_CREATED, headers)


@router.get(
    "",
    summary="List candidates",
    response_model=CandidateListResponse,
    responses=success(
        200,
        "One page",
        {"candidates": [EXAMPLE_CANDIDATE], "pagination": EXAMPLE_PAGINATION.model_dump()},
        PAGE_HEADERS,
        links("get_candidate", parameters=FIRST_CANDIDATE)
        | links("list_candidates", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    )
    | not_modified(PAGE_HEADERS),
)
@refuses(InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"))
@direct
async def list_candidates(
    query: Annotated[CandidateListQuery, Query()],
    request: Request,
    service: CandidateServiceDep,
    _user: StaffDep,
    _once: ParametersOnce,
    revalidation: RevalidationDep,
) -> Response:
    """List candidates, newest first or by `sort`: by `cursor`, by `limit` and `offset`, or by `page` and `page_size`.

    Following `pagination.next_cursor` or the `Link` header costs the same for every page; offsets go up to 100,000.
    With other filters than `status` and `product`, totals are exact up to 10,000.
    """
    page = query.to_page()
    found = await service.list_candidates(query.selection, page)
    pagination = found.pagination(page, query.order)
    return revalidation.respond(
        f'{{"candidates":{found.records},"pagination":{pagination.model_dump_json()}}}',
        headers=page_links(request, CANDIDATES, query, pagination.next_cursor),
    )


@router.get(
    "/{candidate_id}",
    summary="Read a candidate",
    response_model=CandidateResponse,
    responses=success(
        200,
        "The whole record",
        EXAMPLE_CANDIDATE,
        RECORD_HEADERS,
        links("approve_candidate", "reject_candidate", parameters=THIS_VERSION),
    )
    | not_modified(RECORD_HEADERS),
)
@refuses(CandidateNotFound(EXAMPLE_ID))
@direct
async def get_candidate(
    candidate_id: CandidateId, service: CandidateServiceDep, _user: StaffDep, revalidation: RevalidationDep
) -> Response:
    """Read one candidate. Send its `ETag` in `If-Match` when you decide."""
    record = await service.get(candidate_id)
    changes_alone = record.has_approval  # whose state changes without the version
    return revalidation.respond(record.json, tag=etag(record.version, record.json if changes_alone else None))


@router.post(
    "/{candidate_id}/reject",
    summary="Reject a candidate",
    response_model=RejectionResponse,
    responses=success(
        200,
        "Rejected",
        {"candidate_id": str(EXAMPLE_ID), "status": "rejected", "rejection_reason": "No cold chain"},
        REPLAYED_HEADER,
        links("get_candidate", parameters=THIS_CANDIDATE),
    ),
    openapi_extra=request_body(
        (
            "application/json",
            RejectionRequest,
            {
                "With a reason": {"reason": "No cold chain"},
                "Without a reason": {},
                "Without an e-mail": {"reason": "No cold chain", "notify": False},
            },
        ),
        required=False,
    ),
)
@refuses(
    CandidateNotPending(EXAMPLE_ID, "approved"),
    CandidateNotFound(EXAMPLE_ID),
    ApprovalInProgress(EXAMPLE_ID),
    ApprovalUnfinished(EXAMPLE_ID),
    ApprovalNeedsResolution(EXAMPLE_ID),
    CandidateChanged(EXAMPLE_ID),
    VersionMismatch(EXAMPLE_ID, 2),
    InvalidRequest.at("body", "reason", "String should have at most 1000 characters", code="too-long"),
)
@direct
async def reject_candidate(
    candidate_id: CandidateId,
    user: AdminDep,  # before the body: unauthenticated requests are refused before their body is read
    rejection: RejectionBody,
    service: CandidateServiceDep,
    expected: ExpectedVersions,
    sent_key: IdempotencyKey,
    request: Request,
) -> Response:
    """Reject a pending candidate, with or without a reason; the body is optional."""
    key = key_of_decision(sent_key, request, user, rejection, expected)
    candidate = await service.reject(
        candidate_id, actor=user.actor, reason=rejection.reason, expected=expected, notify=rejection.notify, key=key
    )
    content = RejectionResponse.model_validate(candidate).model_dump_json()
    return json_response(content, headers=replayed_header(key is not None and key.is_replay))
