"""The route that replaces a candidate's status link."""

from __future__ import annotations

from fastapi import APIRouter, Request

from provider_registration.auth.dependencies import AdminDep
from provider_registration.candidates.dependencies import CandidateId, CandidateServiceDep
from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.candidates.links import CANDIDATES, status_links
from provider_registration.candidates.schemas import EXAMPLE_STATUS_URL, StatusLinkResponse
from provider_registration.web.openapi import EXAMPLE_ID, refuses, success
from provider_registration.web.routing import Route

router = APIRouter(prefix=CANDIDATES, tags=["candidates"], route_class=Route)


@router.post(
    "/{candidate_id}/status-link",
    summary="Replace the link to a candidate's status page",
    response_model_exclude_none=True,
    responses=success(200, "The new link; earlier ones no longer work", {"status_url": EXAMPLE_STATUS_URL}),
)
@refuses(CandidateNotFound(EXAMPLE_ID))
async def replace_status_link(
    candidate_id: CandidateId, user: AdminDep, service: CandidateServiceDep, request: Request
) -> StatusLinkResponse:
    """Create a new link if it was lost or shared; all earlier ones, also in e-mails, stop working immediately.

    Send it only to the company: anyone who has it can see the application.
    """
    secret = await service.replace_status_secret(candidate_id, actor=user.actor)
    return StatusLinkResponse(**status_links(request, secret))
