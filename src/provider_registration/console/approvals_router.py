"""The pages of approvals that billing has not confirmed: look, retry, resolve."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from provider_registration.approvals.dependencies import ApprovalServiceDep
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import ApprovalState, Candidate
from provider_registration.console import paths
from provider_registration.console.candidate_router import CANDIDATE, CandidateDep, DecisionsDep
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import DecidingUserDep, OwnFormDep
from provider_registration.console.kept import AGAIN
from provider_registration.console.navigation import lead_to, own_page
from provider_registration.console.resolution import ReadResolution, read_resolution
from provider_registration.pages.forms import Form
from provider_registration.pages.router import RendererDep
from provider_registration.web.pagination import Page

router = APIRouter(include_in_schema=False)

SHOWN = 50  # of each state, oldest first
NOT_IN_DOUBT = Outcome("info", "This approval is not in doubt any more.")


@router.get(paths.APPROVALS)
async def list_approvals(
    signed_in: DecidingUserDep,
    service: CandidateServiceDep,
    approval_service: ApprovalServiceDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Those in doubt, which wait for somebody, before those that complete by themselves."""
    lists = []
    for state in (ApprovalState.IN_DOUBT, ApprovalState.WAITING, ApprovalState.IN_PROGRESS):
        approvals, total = await approval_service.list_unfinished(Page(SHOWN), state=state)
        lists.append((state, approvals, total))
    asked_by = {approval.requested_by for _, approvals, _ in lists for approval in approvals}
    names = await service.browsing.names(asked_by)
    return own_page(renderer, request, "approvals.html", signed_in, lists=lists, names=names)


@router.post(f"{CANDIDATE}/approval/retry")
async def retry(
    candidate: CandidateDep, signed_in: DecidingUserDep, _form: OwnFormDep, decisions: DecisionsDep, request: Request
) -> Response:
    """Ask billing again now."""
    return lead_to(request, paths.APPROVALS, await decisions.retry(candidate, user_id=signed_in.user.user_id))


@router.get(f"{CANDIDATE}/approval/resolve")
async def ask_to_resolve(
    candidate: CandidateDep, signed_in: DecidingUserDep, renderer: RendererDep, request: Request
) -> Response:
    """Ask what was found in billing."""
    if not _is_in_doubt(candidate):
        return lead_to(request, paths.APPROVALS, NOT_IN_DOUBT)
    return own_page(
        renderer,
        request,
        "resolve.html",
        signed_in,
        candidate=candidate,
        read=ReadResolution(),
        typed=Form({}),
    )


@router.post(f"{CANDIDATE}/approval/resolve")
async def resolve(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    form: OwnFormDep,
    decisions: DecisionsDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Link the provider, once its number was read back, or let the approval go; or ask again."""
    if form.get(AGAIN):
        if not _is_in_doubt(candidate):
            return lead_to(request, paths.APPROVALS, NOT_IN_DOUBT)
        return own_page(
            renderer, request, "resolve.html", signed_in, candidate=candidate, read=ReadResolution(), typed=form
        )
    read = read_resolution(form)
    if read.error:
        return own_page(
            renderer, request, "resolve.html", signed_in, status=422, candidate=candidate, read=read, typed=form
        )
    if read.provider_id is not None and form.get("confirmed") != str(read.provider_id):
        return own_page(
            renderer, request, "resolve_link.html", signed_in, candidate=candidate, provider_id=read.provider_id
        )
    if read.provider_id is not None:
        outcome = await decisions.link(candidate, read.provider_id, user_id=signed_in.user.user_id)
    else:
        outcome = await decisions.let_go(candidate, user_id=signed_in.user.user_id)
    return lead_to(request, paths.APPROVALS, outcome)


def _is_in_doubt(candidate: Candidate) -> bool:
    return candidate.approval is not None and candidate.approval.state is ApprovalState.IN_DOUBT
