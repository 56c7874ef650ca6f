"""Pages of one candidate: details, approve, reject, and a new status link."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from provider_registration.approvals.dependencies import ApprovalServiceDep
from provider_registration.approvals.models import ApprovalEvent, ApprovalRecord
from provider_registration.approvals.service import ApprovalService
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.links import absolute_url, status_url
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.service import CandidateService
from provider_registration.console.decisions import Outcome, seen_version
from provider_registration.console.dependencies import (
    BrowserUserDep,
    CandidateDep,
    DecidingUserDep,
    DecisionsDep,
)
from provider_registration.console.layout import AGAIN, CANDIDATE, CANDIDATES, NEXT, Layout, LayoutDep, page_of
from provider_registration.console.reasons import parse_reason, reason_values
from provider_registration.pages.forms import FormDep

router = APIRouter(include_in_schema=False)
status_link_router = APIRouter(include_in_schema=False)  # installed only with PUBLIC_PAGES

ALREADY_DECIDED = Outcome("info", "This application was already decided.")
NONE_PENDING = Outcome("success", "No candidates are pending.")

EVENTS = {
    ApprovalEvent.REQUESTED: "Approval requested",
    ApprovalEvent.RETRY_REQUESTED: "Retry requested",
    ApprovalEvent.FAILED: "Approval failed",
    ApprovalEvent.IN_DOUBT: "Approval needs checking",
    ApprovalEvent.LINKED: "Linked manually to a provider in billing",
    ApprovalEvent.LET_GO: "Cancelled manually",
    ApprovalEvent.APPROVED: "Approved: billing created the provider",
    ApprovalEvent.ORPHANED: "Billing created a provider that is linked to no candidate",
}


@router.get(NEXT)
async def next_pending(service: CandidateServiceDep, layout: LayoutDep, after: UUID | None = None) -> Response:
    """Redirect to the oldest pending candidate or, given `after`, to the next one."""
    candidate = await service.browsing.candidate(after) if after else None
    found = await service.browsing.next_pending(candidate)
    if found is None:
        return layout.redirect(CANDIDATES, NONE_PENDING)
    return layout.redirect(f"{CANDIDATES}/{found}")


@router.get(CANDIDATE)
async def show_candidate(
    candidate: CandidateDep,
    signed_in: BrowserUserDep,
    service: CandidateServiceDep,
    approvals: ApprovalServiceDep,
    layout: LayoutDep,
) -> Response:
    """Show a candidate and the possible actions."""
    return layout.page(
        "candidate.html",
        candidate=candidate,
        history=await history_of(service, approvals if signed_in.may_decide else None, candidate),
        can_create_links=service.creates_status_links,
    )


@router.get(f"{CANDIDATE}/approve")
async def confirm_approval(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask for confirmation."""
    if candidate.status is not Status.PENDING:
        return layout.redirect(page_of(candidate), ALREADY_DECIDED)
    return layout.page("approve.html", candidate=candidate)


@router.post(f"{CANDIDATE}/approve")
async def approve(
    candidate: CandidateDep, signed_in: DecidingUserDep, form: FormDep, decisions: DecisionsDep, layout: LayoutDep
) -> Response:
    """Approve it, unless someone else decided first."""
    outcome = await decisions.approve(
        candidate, user_id=signed_in.user.user_id, version=seen_version(form.get("version"))
    )
    return _respond(layout, candidate, outcome)


@router.get(f"{CANDIDATE}/reject")
async def show_reject_form(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask for the reason and for confirmation."""
    if candidate.status is not Status.PENDING:
        return layout.redirect(page_of(candidate), ALREADY_DECIDED)
    return layout.page("reject.html", candidate=candidate, **reason_values())


@router.post(f"{CANDIDATE}/reject")
async def reject(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    form: FormDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Reject it, unless someone else decided first; show the form again if the reason is invalid."""
    if form.get(AGAIN):
        if candidate.status is not Status.PENDING:
            return layout.redirect(page_of(candidate), ALREADY_DECIDED)
        values = reason_values(typed=form)
        return layout.page("reject.html", candidate=candidate, **values)
    parsed = parse_reason(form)
    if parsed.error:
        values = reason_values(parsed, form)
        return layout.page("reject.html", status=422, candidate=candidate, **values)
    outcome = await decisions.reject(
        candidate, user_id=signed_in.user.user_id, reason=parsed.reason, version=seen_version(form.get("version"))
    )
    return _respond(layout, candidate, outcome)


def _respond(layout: Layout, candidate: Candidate, outcome: Outcome) -> Response:
    """Redirect to the candidate, or return JSON to the script that decides several."""
    if "text/html" not in layout.request.headers.get("accept", ""):
        return JSONResponse({"kind": outcome.kind, "text": outcome.text, "is_done": outcome.is_done})
    next_one = f"{NEXT}?after={candidate.candidate_id}"
    return layout.redirect(page_of(candidate), outcome, next_one, "Next pending candidate")


@status_link_router.get(f"{CANDIDATE}/status-link")
async def confirm_new_link(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask for confirmation; a new link replaces the current one."""
    return layout.page("status_link.html", candidate=candidate, link=None)


@status_link_router.post(f"{CANDIDATE}/status-link")
async def replace(
    candidate: CandidateDep,
    _signed_in: DecidingUserDep,
    service: CandidateServiceDep,
    layout: LayoutDep,
) -> Response:
    """Replace the status link and show the new one once."""
    secret = await service.replace_status_secret(candidate.candidate_id)
    link = absolute_url(layout.request, status_url(layout.request, secret))
    return layout.page("status_link.html", candidate=candidate, link=link)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the activity list. Without `who`, the service did it, or the user is not recorded."""

    at: datetime
    what: str
    who: str | None = None
    detail: str | None = None
    provider_id: int | None = None


async def history_of(
    candidates: CandidateService, approvals: ApprovalService | None, candidate: Candidate
) -> list[Event]:
    """The events of a candidate, newest first; without `approvals` the steps of an approval are left out."""
    records = await approvals.history(candidate.candidate_id) if approvals else []
    people = {record.user_id for record in records} | {candidate.rejected_by}
    names = await candidates.browsing.user_emails({user_id for user_id in people if user_id})
    events = [
        Event(
            record.at,
            EVENTS[record.event],
            names.get(record.user_id) if record.user_id else None,
            record.detail,
            record.provider_id,
        )
        for record in records
    ]
    events.append(Event(candidate.created_at, "Registered"))
    if candidate.status is Status.REJECTED:
        who = names.get(candidate.rejected_by) if candidate.rejected_by else None
        events.append(Event(candidate.updated_at, "Rejected", who, candidate.rejection_reason))
    elif candidate.status is Status.APPROVED and not _has_approval(records):
        events.append(Event(candidate.updated_at, "Approved", provider_id=candidate.provider_id))
    return sorted(events, key=lambda event: event.at, reverse=True)


def _has_approval(records: list[ApprovalRecord]) -> bool:
    return any(record.event in (ApprovalEvent.APPROVED, ApprovalEvent.LINKED) for record in records)
