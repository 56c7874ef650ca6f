"""Routes for approvals: approve a candidate, and list, retry or resolve unfinished approvals."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from provider_registration.approvals.dependencies import ApprovalServiceDep
from provider_registration.approvals.errors import (
    ApprovalFailed,
    ApprovalInDoubt,
    ApprovalNotFound,
    ApprovalNotInDoubt,
    ApprovalWaiting,
    BillingPaused,
    ProviderLinkedElsewhere,
    ProviderNameBusy,
    ProviderNameTaken,
)
from provider_registration.approvals.schemas import (
    EXAMPLE_APPROVAL,
    EXAMPLE_EVENT,
    ApprovalHistoryQuery,
    ApprovalHistoryResponse,
    ApprovalListQuery,
    ApprovalListResponse,
    ApprovalResponse,
    ResolutionRequest,
)
from provider_registration.auth.dependencies import AdminDep, AuditorDep
from provider_registration.candidates.api import THIS_CANDIDATE
from provider_registration.candidates.dependencies import CandidateId, CandidateServiceDep, key_of_decision
from provider_registration.candidates.errors import (
    ApprovalInProgress,
    ApprovalNeedsResolution,
    CandidateChanged,
    CandidateNotFound,
    CandidateNotPending,
    VersionMismatch,
)
from provider_registration.candidates.links import CANDIDATES
from provider_registration.candidates.schemas import (
    EXAMPLE_APPROVED,
    EXAMPLE_CANDIDATE,
    CandidateResponse,
    DecisionRequest,
)
from provider_registration.idempotency.dependencies import REPLAYED_HEADER, IdempotencyKey, replayed_header
from provider_registration.web.body import json_body
from provider_registration.web.links import page_links
from provider_registration.web.openapi import EXAMPLE_ID, link_header, links, refuses, request_body, success
from provider_registration.web.pagination import Page, Pagination
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.preconditions import ExpectedVersions
from provider_registration.web.problems import (
    InvalidRequest,
)
from provider_registration.web.routing import Route, direct, json_response

router = APIRouter(tags=["approvals"], route_class=Route)

CANDIDATE = f"{CANDIDATES}/{{candidate_id}}"
CANDIDATE_APPROVAL = f"{CANDIDATE}/approval"
APPROVALS = "/approvals"
APPROVAL_EVENTS = f"{CANDIDATE_APPROVAL}/events"
FIRST_APPROVAL = {"candidate_id": "$response.body#/approvals/0/candidate_id"}

DecisionBody = Annotated[DecisionRequest, Depends(json_body(DecisionRequest, optional=True))]
ResolutionBody = Annotated[ResolutionRequest, Depends(json_body(ResolutionRequest))]


@router.post(
    f"{CANDIDATE}/approve",
    summary="Approve a candidate",
    response_model=ApprovalResponse,
    responses=success(
        200,
        "Approved; the provider exists in billing",
        EXAMPLE_APPROVED,
        REPLAYED_HEADER,
        links("get_candidate", "list_approval_events", parameters=THIS_CANDIDATE),
    ),
    openapi_extra=request_body(
        ("application/json", DecisionRequest, {"With an e-mail": {}, "Without an e-mail": {"notify": False}}),
        required=False,
    ),
)
@refuses(
    CandidateNotPending(EXAMPLE_ID, "rejected"),
    CandidateNotFound(EXAMPLE_ID),
    ApprovalInProgress(EXAMPLE_ID),
    ApprovalNeedsResolution(EXAMPLE_ID),
    CandidateChanged(EXAMPLE_ID),
    ProviderNameBusy(),
    ProviderNameTaken(),
    VersionMismatch(EXAMPLE_ID, 2),
    ApprovalFailed("billing cannot be reached (Connection refused)"),
    ApprovalWaiting("billing did not respond (timeout)"),
    ApprovalInDoubt("billing already has a provider with this name"),
    BillingPaused(5),
    InvalidRequest.at("body", "notify", "Input should be a valid boolean", code="wrong-type"),
)
@direct
async def approve_candidate(
    candidate_id: CandidateId,
    user: AdminDep,  # before the body, as for a rejection
    decision: DecisionBody,
    service: ApprovalServiceDep,
    expected: ExpectedVersions,
    sent_key: IdempotencyKey,
    request: Request,
) -> Response:
    """Create the candidate's provider in billing, exactly once, and mark the candidate as approved.

    The body is optional.
    """
    key = key_of_decision(sent_key, request, user, decision, expected)
    candidate = await service.approve(
        candidate_id, actor=user.actor, expected=expected, notify=decision.notify, key=key
    )
    content = ApprovalResponse.model_validate(candidate).model_dump_json()
    return json_response(content, headers=replayed_header(key is not None and key.is_replay))


@router.get(
    APPROVALS,
    summary="List unfinished approvals",
    responses=success(
        200,
        "One page, oldest first",
        {
            "approvals": [EXAMPLE_APPROVAL],
            "pagination": Pagination.of(Page(limit=20), 1, None).model_dump(),
        },
        link_header(APPROVALS),
        links("list_approval_events", "retry_approval", "resolve_approval", parameters=FIRST_APPROVAL)
        | links("list_approvals", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(InvalidRequest.at("query", "state", "Input should be 'in_progress', …", code="unknown-value"))
async def list_approvals(
    query: Annotated[ApprovalListQuery, Query()],
    service: ApprovalServiceDep,
    _user: AuditorDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> ApprovalListResponse:
    """List approvals that billing has not confirmed yet: in progress, waiting for a retry, or in doubt."""
    page = query.to_page()
    found = await service.list_unfinished(page, state=query.state)
    listed = ApprovalListResponse.of(found, page)
    response.headers.update(page_links(request, APPROVALS, query, listed.pagination.next_cursor))
    return listed


@router.get(
    APPROVAL_EVENTS,
    summary="List the events of an approval",
    responses=success(
        200,
        "Some events, newest first",
        {"events": [EXAMPLE_EVENT], "pagination": {"next_cursor": None}},
        link_header(APPROVAL_EVENTS.format(candidate_id=EXAMPLE_ID)),
        links("list_approval_events", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(
    CandidateNotFound(EXAMPLE_ID),
    InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"),
)
async def list_approval_events(
    candidate_id: CandidateId,
    query: Annotated[ApprovalHistoryQuery, Query()],
    candidates: CandidateServiceDep,
    service: ApprovalServiceDep,
    _user: AuditorDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> ApprovalHistoryResponse:
    """List who requested, retried or resolved the candidate's approval, and how it ended."""
    await candidates.get(candidate_id)
    listed = ApprovalHistoryResponse.of(await service.history(candidate_id, limit=query.limit, before=query.cursor))
    path = APPROVAL_EVENTS.format(candidate_id=candidate_id)
    response.headers.update(page_links(request, path, query, listed.pagination.next_cursor))
    return listed


@router.post(
    f"{CANDIDATE_APPROVAL}/retry",
    summary="Retry a waiting approval now",
    responses=success(200, "Approved; the provider exists in billing", EXAMPLE_APPROVED),
)
@refuses(
    CandidateNotPending(EXAMPLE_ID, "approved"),
    CandidateNotFound(EXAMPLE_ID),
    ApprovalNotFound(EXAMPLE_ID),
    ApprovalInProgress(EXAMPLE_ID),
    ApprovalNeedsResolution(EXAMPLE_ID),
    CandidateChanged(EXAMPLE_ID),
    ProviderNameTaken(),
    VersionMismatch(EXAMPLE_ID, 2),
    ApprovalWaiting("billing did not respond (timeout)"),
    ApprovalInDoubt("billing already has a provider with this name"),
)
async def retry_approval(
    candidate_id: CandidateId, service: ApprovalServiceDep, user: AdminDep, expected: ExpectedVersions
) -> ApprovalResponse:
    """Retry the request to billing now, with the same key, instead of waiting for the next attempt."""
    candidate = await service.retry(candidate_id, actor=user.actor, expected=expected)
    return ApprovalResponse.model_validate(candidate)


@router.post(
    f"{CANDIDATE_APPROVAL}/resolve",
    summary="Resolve an approval in doubt",
    responses=success(
        200,
        "Resolved; the candidate's current record",
        {**EXAMPLE_CANDIDATE, "status": "approved", "provider_id": 4711, "version": 2},
    ),
    openapi_extra=request_body(
        (
            "application/json",
            ResolutionRequest,
            {
                "The provider belongs to this candidate": {"resolution": "link", "provider_id": 4711},
                "The provider belongs to another company": {"resolution": "let_go"},
            },
        )
    ),
)
@refuses(
    CandidateNotPending(EXAMPLE_ID, "approved"),
    CandidateNotFound(EXAMPLE_ID),
    ApprovalNotFound(EXAMPLE_ID),
    ApprovalNotInDoubt(EXAMPLE_ID),
    CandidateChanged(EXAMPLE_ID),
    ProviderLinkedElsewhere(4711),
    VersionMismatch(EXAMPLE_ID, 2),
    InvalidRequest.at("body", "provider_id", "Field required with link", code="required"),
)
async def resolve_approval(
    candidate_id: CandidateId,
    user: AdminDep,
    resolution: ResolutionBody,
    service: ApprovalServiceDep,
    expected: ExpectedVersions,
) -> CandidateResponse:
    """Resolve an approval in doubt, after looking for its provider name in billing.

    `link` marks the candidate as approved, with the existing provider; `let_go` cancels the approval, and the
    candidate can be approved again or rejected.
    """
    if resolution.provider_id is not None:
        candidate = await service.link(candidate_id, resolution.provider_id, actor=user.actor, expected=expected)
    else:
        candidate = await service.let_go(candidate_id, actor=user.actor, expected=expected)
    return CandidateResponse.model_validate(candidate)
