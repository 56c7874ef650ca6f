"""Giving a company a new address of its own page, from the console."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.links import absolute_url, status_url
from provider_registration.console.candidate_router import CANDIDATE, CandidateDep
from provider_registration.console.dependencies import DecidingUserDep, OwnFormDep
from provider_registration.console.navigation import own_page
from provider_registration.pages.router import RendererDep

router = APIRouter(include_in_schema=False)

STATUS_LINK = f"{CANDIDATE}/status-link"


@router.get(STATUS_LINK)
async def ask_to_replace(
    candidate: CandidateDep, signed_in: DecidingUserDep, renderer: RendererDep, request: Request
) -> Response:
    """Say what a new link does to the one before."""
    return own_page(renderer, request, "status_link.html", signed_in, candidate=candidate, link=None)


@router.post(STATUS_LINK)
async def replace(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    _form: OwnFormDep,
    service: CandidateServiceDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Replace it, and show the new one this once."""
    secret = await service.replace_status_secret(candidate.candidate_id)
    link = absolute_url(request, status_url(request, secret))
    return own_page(renderer, request, "status_link.html", signed_in, candidate=candidate, link=link)
