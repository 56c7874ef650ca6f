"""Pages of one candidate: details, approve, reject, and a new status link."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.links import absolute_url, status_url
from provider_registration.candidates.models import Candidate, Status
from provider_registration.console.decisions import NOTIFY, Outcome, seen_version, wants_mail
from provider_registration.console.dependencies import (
    BrowserUserDep,
    CandidateDep,
    DecidingUserDep,
    DecisionsDep,
)
from provider_registration.console.event_names import EVENTS
from provider_registration.console.layout import AGAIN, CANDIDATE, CANDIDATES, NEXT, Layout, LayoutDep, page_of
from provider_registration.console.reasons import parse_reason, reason_values
from provider_registration.events.dependencies import EventServiceDep
from provider_registration.pages.forms import FormDep
from provider_registration.similar.dependencies import SimilarServiceDep
from provider_registration.web.pagination import MAX_ID

router = APIRouter(include_in_schema=False)
status_link_router = APIRouter(include_in_schema=False)  # installed only with PUBLIC_PAGES

ALREADY_DECIDED = Outcome("info", "This application was already decided.")

EVENTS_SHOWN = 50

BeforeEvent = Annotated[int | None, Query(ge=1, le=MAX_ID)]


@router.get(NEXT)
async def next_pending(service: CandidateServiceDep, layout: LayoutDep, after: UUID | None = None) -> Response:
    """Redirect to the oldest pending candidate or, given `after`, to the next one."""
    candidate = await service.browsing.candidate(after) if after else None
    found = await service.browsing.next_pending(candidate)
    if found is None:
        sentence = f"No {'other ' if after else ''}candidate is waiting for a decision."
        return layout.redirect(CANDIDATES, Outcome("success", sentence))
    return layout.redirect(f"{CANDIDATES}/{found}")


@router.get(CANDIDATE)
async def show_candidate(
    candidate: CandidateDep,
    signed_in: BrowserUserDep,
    service: CandidateServiceDep,
    events: EventServiceDep,
    similar: SimilarServiceDep,
    layout: LayoutDep,
    before: BeforeEvent = None,
) -> Response:
    """Show a candidate, the possible actions, and its latest events, or those `before` an event."""
    return layout.page(
        "candidate.html",
        candidate=candidate,
        activity=await events.of_candidate(candidate.candidate_id, limit=EVENTS_SHOWN, before=before),
        is_older=before is not None,
        names_of_events=EVENTS,
        shows_errors=signed_in.may_audit,
        can_create_links=service.creates_status_links and not candidate.is_erased,
        similar=await similar.similar_to(candidate),
    )


@router.get(f"{CANDIDATE}/approve")
async def confirm_approval(
    candidate: CandidateDep, _signed_in: DecidingUserDep, similar: SimilarServiceDep, layout: LayoutDep
) -> Response:
    """Ask for confirmation, and show which companies may be the same."""
    if candidate.status is not Status.PENDING:
        return layout.redirect(page_of(candidate), ALREADY_DECIDED)
    return layout.page("approve.html", candidate=candidate, similar=await similar.similar_to(candidate))


@router.post(f"{CANDIDATE}/approve")
async def approve(
    candidate: CandidateDep, signed_in: DecidingUserDep, form: FormDep, decisions: DecisionsDep, layout: LayoutDep
) -> Response:
    """Approve it, unless someone else decided first."""
    outcome = await decisions.approve(
        candidate,
        actor=signed_in.user.actor,
        version=seen_version(form.get("version")),
        notify=wants_mail(form.all(NOTIFY)),
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
        candidate,
        actor=signed_in.user.actor,
        reason=parsed.reason,
        version=seen_version(form.get("version")),
        notify=wants_mail(form.all(NOTIFY)),
    )
    return _respond(layout, candidate, outcome)


def _respond(layout: Layout, candidate: Candidate, outcome: Outcome) -> Response:
    """Redirect to the candidate, with the outcome."""
    next_one = f"{NEXT}?after={candidate.candidate_id}"
    return layout.redirect(page_of(candidate), outcome, next_one, "Next pending candidate")


@status_link_router.get(f"{CANDIDATE}/status-link")
async def confirm_new_link(candidate: CandidateDep, _signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask for confirmation; a new link replaces all earlier ones."""
    return layout.page("status_link.html", candidate=candidate, link=None)


@status_link_router.post(f"{CANDIDATE}/status-link")
async def replace(
    candidate: CandidateDep,
    signed_in: DecidingUserDep,
    service: CandidateServiceDep,
    layout: LayoutDep,
) -> Response:
    """Replace the status link and show the new one once."""
    secret = await service.replace_status_secret(candidate.candidate_id, actor=signed_in.user.actor)
    link = absolute_url(layout.request, status_url(layout.request, secret))
    return layout.page("status_link.html", candidate=candidate, link=link)
