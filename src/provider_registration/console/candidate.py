"""The pages of one candidate: everything about it, deciding, and a new address of the company's own page."""

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
from provider_registration.console.reasons import asking_for_reason, read_reason
from provider_registration.pages.forms import FormDep

router = APIRouter(include_in_schema=False)
status_link_router = APIRouter(include_in_schema=False)  # where companies have pages of their own

ALREADY_DECIDED = Outcome("info", "There is nothing to decide here.")
NOBODY_WAITS = Outcome("success", "No candidates are pending.")

EVENTS = {
    ApprovalEvent.REQUESTED: "Approval asked for",
    ApprovalEvent.RETRY_REQUESTED: "Another try asked for",
    ApprovalEvent.FAILED: "The approval failed",
    ApprovalEvent.IN_DOUBT: "The approval is in doubt",
    ApprovalEvent.LINKED: "Resolved: the provider in billing is this company's",
    ApprovalEvent.LET_GO: "Resolved: the approval was let go",
    ApprovalEvent.APPROVED: "Approved: billing has the provider",
    ApprovalEvent.ORPHANED: "Billing made a provider that no candidate is linked to",
}


@router.get(NEXT)
async def next_pending(service: CandidateServiceDep, layout: LayoutDep, after: UUID | None = None) -> Response:
    """Lead to the candidate that waits longest or, `after` one, to the next."""
    candidate = await service.browsing.candidate(after) if after else None
    found = await service.browsing.next_pending(candidate)
    if found is None:
        return layout.lead_to(CANDIDATES, NOBODY_WAITS)
    return layout.lead_to(f"{CANDIDATES}/{found}")


@router.get(CANDIDATE)
async def show_candidate(
    candidate: CandidateDep,
    signed_in: BrowserUserDep,
    service: CandidateServiceDep,
    approvals: ApprovalServiceDep,
    layout: LayoutDep,
) -> Response:
    """Everything about a candidate, and what can be done."""
    return layout.page(
        "candidate.html",
        candidate=candidate,
        history=await history_of(service, approvals if signed_in.may_decide else None, candidate),
        gives_links=service.gives_status_secrets,
    )


@router.get(f"{CANDIDATE}/approve")
async def ask_to_approve(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Make sure that it is this company that is meant."""
    if candidate.status is not Status.PENDING:
        return layout.lead_to(page_of(candidate), ALREADY_DECIDED)
    return layout.page("approve.html", candidate=candidate)


@router.post(f"{CANDIDATE}/approve")
async def approve(
    candidate: CandidateDep, signed_in: DecidingUserDep, form: FormDep, decisions: DecisionsDep, layout: LayoutDep
) -> Response:
    """Approve it, unless somebody was faster."""
    outcome = await decisions.approve(
        candidate, user_id=signed_in.user.user_id, version=seen_version(form.get("version"))
    )
    return _answer(layout, candidate, outcome)


@router.get(f"{CANDIDATE}/reject")
async def ask_to_reject(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask for the reason, and make sure that it is this company that is meant."""
    if candidate.status is not Status.PENDING:
        return layout.lead_to(page_of(candidate), ALREADY_DECIDED)
    return layout.page("reject.html", candidate=candidate, **asking_for_reason())


@router.post(f"{CANDIDATE}/reject")
async def reject(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    form: FormDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Reject it, unless somebody was faster; or ask for the reason again."""
    if form.get(AGAIN):
        if candidate.status is not Status.PENDING:
            return layout.lead_to(page_of(candidate), ALREADY_DECIDED)
        asking = asking_for_reason(typed=form)
        return layout.page("reject.html", candidate=candidate, **asking)
    read = read_reason(form)
    if read.error:
        asking = asking_for_reason(read, form)
        return layout.page("reject.html", status=422, candidate=candidate, **asking)
    outcome = await decisions.reject(
        candidate, user_id=signed_in.user.user_id, reason=read.reason, version=seen_version(form.get("version"))
    )
    return _answer(layout, candidate, outcome)


def _answer(layout: Layout, candidate: Candidate, outcome: Outcome) -> Response:
    """Lead back to the candidate, or tell the script that decides about many."""
    if "text/html" not in layout.request.headers.get("accept", ""):
        return JSONResponse({"kind": outcome.kind, "text": outcome.text, "is_done": outcome.is_done})
    next_one = f"{NEXT}?after={candidate.candidate_id}"
    return layout.lead_to(page_of(candidate), outcome, next_one, "Next pending candidate")


@status_link_router.get(f"{CANDIDATE}/status-link")
async def ask_to_replace(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Say what a new link does to the one before."""
    return layout.page("status_link.html", candidate=candidate, link=None)


@status_link_router.post(f"{CANDIDATE}/status-link")
async def replace(
    candidate: CandidateDep,
    _signed_in: DecidingUserDep,
    service: CandidateServiceDep,
    layout: LayoutDep,
) -> Response:
    """Replace it, and show the new one this once."""
    secret = await service.replace_status_secret(candidate.candidate_id)
    link = absolute_url(layout.request, status_url(layout.request, secret))
    return layout.page("status_link.html", candidate=candidate, link=link)


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened. Without `who`, the service did it by itself, or it is not recorded."""

    at: datetime
    what: str
    who: str | None = None
    detail: str | None = None
    provider_id: int | None = None


async def history_of(
    candidates: CandidateService, approvals: ApprovalService | None, candidate: Candidate
) -> list[Happening]:
    """What happened, newest first; without `approvals` the steps of an approval are left out."""
    records = await approvals.history(candidate.candidate_id) if approvals else []
    people = {record.user_id for record in records} | {candidate.rejected_by}
    names = await candidates.browsing.names({user_id for user_id in people if user_id})
    happenings = [
        Happening(
            record.at,
            EVENTS[record.event],
            names.get(record.user_id) if record.user_id else None,
            record.detail,
            record.provider_id,
        )
        for record in records
    ]
    happenings.append(Happening(candidate.created_at, "Registered"))
    if candidate.status is Status.REJECTED:
        who = names.get(candidate.rejected_by) if candidate.rejected_by else None
        happenings.append(Happening(candidate.updated_at, "Rejected", who, candidate.rejection_reason))
    elif candidate.status is Status.APPROVED and not _says_approved(records):
        happenings.append(Happening(candidate.updated_at, "Approved", provider_id=candidate.provider_id))
    return sorted(happenings, key=lambda happening: happening.at, reverse=True)


def _says_approved(records: list[ApprovalRecord]) -> bool:
    return any(record.event in (ApprovalEvent.APPROVED, ApprovalEvent.LINKED) for record in records)
