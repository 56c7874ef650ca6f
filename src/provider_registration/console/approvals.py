"""The pages of approvals that billing has not confirmed: look, retry, resolve."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from provider_registration.approvals.dependencies import ApprovalServiceDep
from provider_registration.approvals.schemas import ResolutionRequest
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import ApprovalState, Candidate
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import CandidateDep, DecidingUserDep, DecisionsDep
from provider_registration.console.layout import AGAIN, APPROVALS, CANDIDATE, LayoutDep
from provider_registration.pages.forms import Form, FormDep
from provider_registration.web.pagination import Page

router = APIRouter(include_in_schema=False)

SHOWN = 50  # of each state, oldest first
MAX_DIGITS = 10  # of the largest number that a provider can have
NOT_IN_DOUBT = Outcome("info", "This approval is not in doubt any more.")


@router.get(APPROVALS)
async def list_approvals(
    _signed_in: DecidingUserDep,
    service: CandidateServiceDep,
    approval_service: ApprovalServiceDep,
    layout: LayoutDep,
) -> Response:
    """Those in doubt, which wait for somebody, before those that complete by themselves."""
    lists = []
    for state in (ApprovalState.IN_DOUBT, ApprovalState.WAITING, ApprovalState.IN_PROGRESS):
        approvals, total = await approval_service.list_unfinished(Page(SHOWN), state=state)
        lists.append((state, approvals, total))
    asked_by = {approval.requested_by for _, approvals, _ in lists for approval in approvals}
    names = await service.browsing.names(asked_by)
    return layout.page("approvals.html", lists=lists, names=names)


@router.post(f"{CANDIDATE}/approval/retry")
async def retry(
    candidate: CandidateDep, signed_in: DecidingUserDep, decisions: DecisionsDep, layout: LayoutDep
) -> Response:
    """Ask billing again now."""
    return layout.lead_to(APPROVALS, await decisions.retry(candidate, user_id=signed_in.user.user_id))


@router.get(f"{CANDIDATE}/approval/resolve")
async def ask_to_resolve(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask what was found in billing."""
    if not _is_in_doubt(candidate):
        return layout.lead_to(APPROVALS, NOT_IN_DOUBT)
    return layout.page("resolve.html", candidate=candidate, read=ReadResolution(), typed=Form({}))


@router.post(f"{CANDIDATE}/approval/resolve")
async def resolve(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    form: FormDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Link the provider, once its number was read back, or let the approval go; or ask again."""
    if form.get(AGAIN):
        if not _is_in_doubt(candidate):
            return layout.lead_to(APPROVALS, NOT_IN_DOUBT)
        return layout.page("resolve.html", candidate=candidate, read=ReadResolution(), typed=form)
    read = read_resolution(form)
    if read.error:
        return layout.page("resolve.html", status=422, candidate=candidate, read=read, typed=form)
    if read.provider_id is not None and form.get("confirmed") != str(read.provider_id):
        return layout.page("resolve_link.html", candidate=candidate, provider_id=read.provider_id)
    if read.provider_id is not None:
        outcome = await decisions.link(candidate, read.provider_id, user_id=signed_in.user.user_id)
    else:
        outcome = await decisions.let_go(candidate, user_id=signed_in.user.user_id)
    return layout.lead_to(APPROVALS, outcome)


def _is_in_doubt(candidate: Candidate) -> bool:
    return candidate.approval is not None and candidate.approval.state is ApprovalState.IN_DOUBT


@dataclass(frozen=True, slots=True)
class ReadResolution:
    """The provider to link, or None to let the approval go; `error` says what is wrong with what was typed."""

    provider_id: int | None = None
    error: str | None = None


def read_resolution(form: Form) -> ReadResolution:
    """The answer that a form gives, by the rules of the API."""
    resolution, typed = form.get("resolution"), form.get("provider_id").strip()
    if resolution == "link" and not (typed.isdecimal() and len(typed) <= MAX_DIGITS):
        return ReadResolution(error="Type the provider's number in billing")
    try:
        request = ResolutionRequest.model_validate(
            {"resolution": resolution, "provider_id": int(typed) if resolution == "link" else None}
        )
    except ValidationError:
        sentence = (
            "There is no provider with such a number" if resolution == "link" else "Say what you found in billing"
        )
        return ReadResolution(error=sentence)
    return ReadResolution(request.provider_id)
