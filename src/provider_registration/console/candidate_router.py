"""The pages of one candidate: everything about it, and deciding."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from provider_registration.approvals.dependencies import ApprovalServiceDep
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import Candidate, Status
from provider_registration.console import paths
from provider_registration.console.decisions import Decisions, Outcome, seen_version
from provider_registration.console.dependencies import BrowserUserDep, DecidingUserDep, OwnFormDep
from provider_registration.console.history import history_of
from provider_registration.console.kept import AGAIN
from provider_registration.console.navigation import lead_to, own_page
from provider_registration.console.rejection import asking_for_reason, read_reason
from provider_registration.pages.router import RendererDep

router = APIRouter(include_in_schema=False)

CANDIDATE = f"{paths.CANDIDATES}/{{candidate_id}}"
NEXT = f"{paths.HOME}/next"
ALREADY_DECIDED = Outcome("info", "There is nothing to decide here.")
NOBODY_WAITS = Outcome("success", "No candidates are pending.")


async def find_candidate(candidate_id: UUID, _signed_in: BrowserUserDep, service: CandidateServiceDep) -> Candidate:
    """The candidate of the address, for whoever is signed in."""
    return await service.browsing.candidate(candidate_id)


async def get_decisions(service: CandidateServiceDep, approvals: ApprovalServiceDep) -> Decisions:
    """What carries out decisions."""
    return Decisions(service, approvals)


CandidateDep = Annotated[Candidate, Depends(find_candidate)]
DecisionsDep = Annotated[Decisions, Depends(get_decisions)]


@router.get(NEXT)
async def next_pending(
    signed_in: BrowserUserDep, service: CandidateServiceDep, request: Request, after: UUID | None = None
) -> Response:
    """Lead to the candidate that waits longest or, `after` one, to the next."""
    candidate = await service.browsing.candidate(after) if after else None
    found = await service.browsing.next_pending(candidate)
    if found is None:
        return lead_to(request, paths.CANDIDATES, NOBODY_WAITS)
    return lead_to(request, f"{paths.CANDIDATES}/{found}", None)


@router.get(CANDIDATE)
async def show_candidate(
    candidate: CandidateDep,
    signed_in: BrowserUserDep,
    service: CandidateServiceDep,
    approvals: ApprovalServiceDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Everything about a candidate, and what can be done."""
    return own_page(
        renderer,
        request,
        "candidate.html",
        signed_in,
        candidate=candidate,
        history=await history_of(service, approvals if signed_in.may_decide else None, candidate),
        gives_links=service.gives_status_secrets,
    )


@router.get(f"{CANDIDATE}/approve")
async def ask_to_approve(
    candidate: CandidateDep, signed_in: DecidingUserDep, renderer: RendererDep, request: Request
) -> Response:
    """Make sure that it is this company that is meant."""
    if candidate.status is not Status.PENDING:
        return lead_to(request, _path(candidate), ALREADY_DECIDED)
    return own_page(renderer, request, "approve.html", signed_in, candidate=candidate)


@router.post(f"{CANDIDATE}/approve")
async def approve(
    candidate: CandidateDep, signed_in: DecidingUserDep, form: OwnFormDep, decisions: DecisionsDep, request: Request
) -> Response:
    """Approve it, unless somebody was faster."""
    outcome = await decisions.approve(
        candidate, user_id=signed_in.user.user_id, version=seen_version(form.get("version"))
    )
    return _answer(request, candidate, outcome)


@router.get(f"{CANDIDATE}/reject")
async def ask_to_reject(
    candidate: CandidateDep, signed_in: DecidingUserDep, renderer: RendererDep, request: Request
) -> Response:
    """Ask for the reason, and make sure that it is this company that is meant."""
    if candidate.status is not Status.PENDING:
        return lead_to(request, _path(candidate), ALREADY_DECIDED)
    return own_page(renderer, request, "reject.html", signed_in, candidate=candidate, **asking_for_reason())


@router.post(f"{CANDIDATE}/reject")
async def reject(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    form: OwnFormDep,
    decisions: DecisionsDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Reject it, unless somebody was faster; or ask for the reason again."""
    if form.get(AGAIN):
        if candidate.status is not Status.PENDING:
            return lead_to(request, _path(candidate), ALREADY_DECIDED)
        asking = asking_for_reason(typed=form)
        return own_page(renderer, request, "reject.html", signed_in, candidate=candidate, **asking)
    read = read_reason(form)
    if read.error:
        asking = asking_for_reason(read, form)
        return own_page(renderer, request, "reject.html", signed_in, status=422, candidate=candidate, **asking)
    outcome = await decisions.reject(
        candidate, user_id=signed_in.user.user_id, reason=read.reason, version=seen_version(form.get("version"))
    )
    return _answer(request, candidate, outcome)


def _path(candidate: Candidate) -> str:
    return f"{paths.CANDIDATES}/{candidate.candidate_id}"


def _answer(request: Request, candidate: Candidate, outcome: Outcome) -> Response:
    """Lead back to the candidate, or tell the script that decides about many."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"kind": outcome.kind, "text": outcome.text, "is_done": outcome.is_done})
    next_one = f"{NEXT}?after={candidate.candidate_id}"
    return lead_to(request, _path(candidate), outcome, next_one, "Next pending candidate")
