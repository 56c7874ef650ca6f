"""Pages for approvals that billing has not confirmed: list, retry, resolve."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from provider_registration.approvals.dependencies import ApprovalServiceDep
from provider_registration.approvals.schemas import ResolutionRequest
from provider_registration.candidates.models import ApprovalState, Candidate
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import AuditingUserDep, CandidateDep, DecidingUserDep, DecisionsDep
from provider_registration.console.layout import AGAIN, APPROVALS, CANDIDATE, LayoutDep
from provider_registration.pages.forms import Form, FormDep
from provider_registration.web.pagination import Page

router = APIRouter(include_in_schema=False)

MAX_SHOWN = 50  # approvals in each state, oldest first
MAX_DIGITS = 10  # of the largest provider ID
NOT_IN_DOUBT = Outcome("info", "This approval no longer needs checking.")


@router.get(APPROVALS)
async def list_approvals(
    _signed_in: AuditingUserDep,
    approval_service: ApprovalServiceDep,
    layout: LayoutDep,
) -> Response:
    """List approvals that need an admin first, then those that complete automatically."""
    lists = []
    for state in (ApprovalState.IN_DOUBT, ApprovalState.WAITING, ApprovalState.IN_PROGRESS):
        page = await approval_service.list_unfinished(Page(MAX_SHOWN), state=state)
        lists.append((state, page.approvals, page.total))
    return layout.page("approvals.html", lists=lists)


@router.post(f"{CANDIDATE}/approval/retry")
async def retry(
    candidate: CandidateDep, signed_in: DecidingUserDep, decisions: DecisionsDep, layout: LayoutDep
) -> Response:
    """Retry the call to billing now."""
    return layout.redirect(APPROVALS, await decisions.retry(candidate, actor=signed_in.user.actor))


@router.get(f"{CANDIDATE}/approval/resolve")
async def show_resolve_form(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Show the form that asks what was found in billing."""
    if not _is_in_doubt(candidate):
        return layout.redirect(APPROVALS, NOT_IN_DOUBT)
    return layout.page("resolve.html", candidate=candidate, parsed=ParsedResolution(), typed=Form({}))


@router.post(f"{CANDIDATE}/approval/resolve")
async def resolve(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    form: FormDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Link the provider after a confirmation, or cancel the approval; show the form again if it is invalid."""
    if form.get(AGAIN):
        if not _is_in_doubt(candidate):
            return layout.redirect(APPROVALS, NOT_IN_DOUBT)
        return layout.page("resolve.html", candidate=candidate, parsed=ParsedResolution(), typed=form)
    parsed = parse_resolution(form)
    if parsed.error:
        return layout.page("resolve.html", status=422, candidate=candidate, parsed=parsed, typed=form)
    if parsed.provider_id is not None and form.get("confirmed") != str(parsed.provider_id):
        return layout.page("resolve_link.html", candidate=candidate, provider_id=parsed.provider_id)
    if parsed.provider_id is not None:
        outcome = await decisions.link(candidate, parsed.provider_id, actor=signed_in.user.actor)
    else:
        outcome = await decisions.let_go(candidate, actor=signed_in.user.actor)
    return layout.redirect(APPROVALS, outcome)


def _is_in_doubt(candidate: Candidate) -> bool:
    return candidate.approval is not None and candidate.approval.state is ApprovalState.IN_DOUBT


@dataclass(frozen=True, slots=True)
class ParsedResolution:
    """The provider to link, or None to cancel the approval; `error` says why the input is invalid."""

    provider_id: int | None = None
    error: str | None = None


def parse_resolution(form: Form) -> ParsedResolution:
    """Validate the form by the rules of the API."""
    resolution, typed = form.get("resolution"), form.get("provider_id").strip()
    if resolution == "link" and not (typed.isdecimal() and len(typed) <= MAX_DIGITS):
        return ParsedResolution(error="Enter the provider ID from billing")
    try:
        request = ResolutionRequest.model_validate(
            {"resolution": resolution, "provider_id": int(typed) if resolution == "link" else None}
        )
    except ValidationError:
        sentence = "Enter a valid provider ID" if resolution == "link" else "Select what you found in billing"
        return ParsedResolution(error=sentence)
    return ParsedResolution(request.provider_id)
