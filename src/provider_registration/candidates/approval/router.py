"""The routes for approvals that are not finished. Asking for one is with the candidates' routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from provider_registration.auth.dependencies import AdminDep
from provider_registration.auth.errors import NotAuthenticated, RoleNotAllowed
from provider_registration.candidates.approval.errors import (
    ApprovalInDoubt,
    ApprovalInProgress,
    ApprovalNeedsResolution,
    ApprovalNotFound,
    ApprovalNotInDoubt,
    ApprovalWaiting,
    ProviderLinkedElsewhere,
    ProviderNameTaken,
)
from provider_registration.candidates.approval.schemas import (
    EXAMPLE_APPROVAL,
    EXAMPLE_EVENT,
    ApprovalDetailResponse,
    ApprovalEventResponse,
    ApprovalHistoryResponse,
    ApprovalListQuery,
    ApprovalListResponse,
    ResolutionRequest,
)
from provider_registration.candidates.dependencies import CandidateId, CandidateServiceDep
from provider_registration.candidates.errors import (
    CandidateChanged,
    CandidateNotFound,
    CandidateNotPending,
    VersionMismatch,
)
from provider_registration.candidates.schemas import (
    EXAMPLE_APPROVED,
    EXAMPLE_CANDIDATE,
    EXAMPLE_ID,
    ApprovalResponse,
    CandidateResponse,
)
from provider_registration.database import DatabaseUnavailable
from provider_registration.web.body import BODY_SECONDS, MAX_BODY_BYTES, json_body
from provider_registration.web.openapi import links, problems, request_body, success
from provider_registration.web.pagination import Page, Pagination
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.preconditions import ExpectedVersions
from provider_registration.web.problems import (
    BodyTooLarge,
    BodyTooSlow,
    FieldError,
    InvalidRequest,
    UnsupportedMediaType,
)
from provider_registration.web.rate_limits import TooManyRequests

router = APIRouter(tags=["approvals"])

CANDIDATE_APPROVAL = "/candidates/{candidate_id}/approval"
EXAMPLE_PATH = f"/candidates/{EXAMPLE_ID}/approval"
STAFF_REFUSALS = (NotAuthenticated(), RoleNotAllowed("admin"))
NOT_A_UUID = InvalidRequest([FieldError(location="path", field="candidate_id", detail="Input should be a UUID")])
FIRST_APPROVAL = {"candidate_id": "$response.body#/approvals/0/candidate_id"}

ResolutionBody = Annotated[ResolutionRequest, Depends(json_body(ResolutionRequest))]


@router.get(
    "/approvals",
    summary="List unfinished approvals",
    responses=success(
        200,
        "One page, oldest first",
        {
            "approvals": [EXAMPLE_APPROVAL],
            "pagination": Pagination.of(Page(limit=20, offset=0), total=1).model_dump(),
        },
        links=links("list_approval_events", "retry_approval", "resolve_approval", parameters=FIRST_APPROVAL),
    )
    | problems(
        "/approvals",
        *STAFF_REFUSALS,
        InvalidRequest([FieldError(location="query", field="state", detail="Input should be 'in_progress', …")]),
        TooManyRequests(42),
        DatabaseUnavailable(),
    ),
)
async def list_approvals(
    query: Annotated[ApprovalListQuery, Query()], service: CandidateServiceDep, _user: AdminDep, _once: ParametersOnce
) -> ApprovalListResponse:
    """List approvals that billing has not confirmed yet: in progress, waiting for another try, or in doubt."""
    page = query.to_page()
    approvals, total = await service.approvals.list_unfinished(page, state=query.state)
    return ApprovalListResponse(
        approvals=[ApprovalDetailResponse.model_validate(approval) for approval in approvals],
        pagination=Pagination.of(page, total),
    )


@router.get(
    f"{CANDIDATE_APPROVAL}/events",
    summary="Read what happened to an approval",
    responses=success(200, "The events, newest first", {"events": [EXAMPLE_EVENT]})
    | problems(
        f"{EXAMPLE_PATH}/events",
        *STAFF_REFUSALS,
        CandidateNotFound(EXAMPLE_ID),
        NOT_A_UUID,
        TooManyRequests(42),
        DatabaseUnavailable(),
    ),
)
async def list_approval_events(
    candidate_id: CandidateId, service: CandidateServiceDep, _user: AdminDep
) -> ApprovalHistoryResponse:
    """Who asked for the candidate's approval, who retried or resolved it, and how it ended."""
    await service.get(candidate_id)
    records = await service.approvals.history(candidate_id)
    return ApprovalHistoryResponse(events=[ApprovalEventResponse.model_validate(record) for record in records])


@router.post(
    f"{CANDIDATE_APPROVAL}/retry",
    summary="Retry a waiting approval now",
    responses=success(200, "Approved; the provider exists in billing", EXAMPLE_APPROVED)
    | problems(
        f"{EXAMPLE_PATH}/retry",
        CandidateNotPending(EXAMPLE_ID, "approved"),
        *STAFF_REFUSALS,
        CandidateNotFound(EXAMPLE_ID),
        ApprovalNotFound(EXAMPLE_ID),
        ApprovalInProgress(EXAMPLE_ID),
        ApprovalNeedsResolution(EXAMPLE_ID),
        CandidateChanged(EXAMPLE_ID),
        ProviderNameTaken(),
        VersionMismatch(EXAMPLE_ID, 2),
        BodyTooLarge(MAX_BODY_BYTES),
        NOT_A_UUID,
        ApprovalWaiting("billing gave no answer (ReadTimeout)"),
        ApprovalInDoubt("billing already has a provider of this name"),
        TooManyRequests(42),
        DatabaseUnavailable(),
    ),
)
async def retry_approval(
    candidate_id: CandidateId, service: CandidateServiceDep, user: AdminDep, expected: ExpectedVersions
) -> ApprovalResponse:
    """Ask billing again now, with the same key, instead of waiting for the next try."""
    candidate = await service.approvals.retry(candidate_id, user_id=user.user_id, expected=expected)
    return ApprovalResponse.model_validate(candidate)


@router.post(
    f"{CANDIDATE_APPROVAL}/resolve",
    summary="Resolve an approval in doubt",
    responses=success(
        200,
        "Resolved; the candidate as it is now",
        {**EXAMPLE_CANDIDATE, "status": "approved", "provider_id": 4711, "version": 2},
    )
    | problems(
        f"{EXAMPLE_PATH}/resolve",
        CandidateNotPending(EXAMPLE_ID, "approved"),
        *STAFF_REFUSALS,
        CandidateNotFound(EXAMPLE_ID),
        ApprovalNotFound(EXAMPLE_ID),
        ApprovalNotInDoubt(EXAMPLE_ID),
        CandidateChanged(EXAMPLE_ID),
        ProviderLinkedElsewhere(4711),
        VersionMismatch(EXAMPLE_ID, 2),
        BodyTooLarge(MAX_BODY_BYTES),
        BodyTooSlow(BODY_SECONDS),
        UnsupportedMediaType("application/json"),
        InvalidRequest([FieldError(location="body", field="provider_id", detail="Field required with link")]),
        TooManyRequests(42),
        DatabaseUnavailable(),
    ),
    openapi_extra=request_body(
        (
            "application/json",
            ResolutionRequest,
            {
                "The provider is ours": {"resolution": "link", "provider_id": 4711},
                "It is another company's": {"resolution": "let_go"},
            },
        )
    ),
)
async def resolve_approval(
    candidate_id: CandidateId,
    user: AdminDep,
    resolution: ResolutionBody,
    service: CandidateServiceDep,
    expected: ExpectedVersions,
) -> CandidateResponse:
    """Say how an approval in doubt ends, after looking for its name in billing.

    `link` marks the candidate approved with the provider that exists; `let_go` ends the approval, and the candidate
    can be approved again or rejected.
    """
    if resolution.provider_id is not None:
        candidate = await service.approvals.link(
            candidate_id, resolution.provider_id, user_id=user.user_id, expected=expected
        )
    else:
        candidate = await service.approvals.let_go(candidate_id, user_id=user.user_id, expected=expected)
    return CandidateResponse.model_validate(candidate)
