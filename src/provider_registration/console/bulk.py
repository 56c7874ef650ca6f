"""Pages for deciding several candidates with one form, one after another within a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import Candidate
from provider_registration.console.decisions import MAX_SELECTED, NOTIFY, Outcome, seen_version, wants_mail
from provider_registration.console.dependencies import DecidingUserDep, DecisionsDep
from provider_registration.console.layout import CANDIDATES, SELECTED, LayoutDep
from provider_registration.console.reasons import parse_reason, reason_values
from provider_registration.pages.forms import Form, FormDep

router = APIRouter(include_in_schema=False)

SECONDS = 20.0  # after which no further decision is started
FIELD = "mark"

NONE_SELECTED = Outcome("info", "Select at least one candidate first.")
NOT_PROCESSED = "Not processed in time. Nothing changed. Select it again."


@router.post(SELECTED)
async def confirm_selected(
    _signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    layout: LayoutDep,
) -> Response:
    """List the selected companies and ask for confirmation."""
    selected = await read_selected(form, service.browsing)
    if not selected:
        return layout.redirect(CANDIDATES, NONE_SELECTED)
    return layout.page(
        "bulk.html",
        selected=selected,
        is_approval=form.get("decision") == "approve",
        **reason_values(typed=form),
    )


@router.post(f"{SELECTED}/approve")
async def approve_selected(
    signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Approve each of them and show the results."""
    actor, notify = signed_in.user.actor, wants_mail(form.all(NOTIFY))
    results = await decide_all(
        await read_selected(form, service.browsing),
        lambda one: decisions.approve(one.candidate, actor=actor, version=one.version, notify=notify),
    )
    return layout.page("bulk_results.html", results=results)


@router.post(f"{SELECTED}/reject")
async def reject_selected(
    signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Reject each of them for one reason and show the results; show the form again if the reason is invalid."""
    selected = await read_selected(form, service.browsing)
    parsed = parse_reason(form)
    if parsed.error:
        return layout.page(
            "bulk.html",
            status=422,
            selected=selected,
            is_approval=False,
            **reason_values(parsed, form),
        )
    actor, notify = signed_in.user.actor, wants_mail(form.all(NOTIFY))
    results = await decide_all(
        selected,
        lambda one: decisions.reject(
            one.candidate, actor=actor, reason=parsed.reason, version=one.version, notify=notify
        ),
    )
    return layout.page("bulk_results.html", results=results)


@dataclass(frozen=True, slots=True)
class SelectedCandidate:
    """A candidate and the version that the list showed."""

    candidate: Candidate
    version: int


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome for one candidate."""

    candidate: Candidate
    outcome: Outcome


Decide = Callable[[SelectedCandidate], Awaitable[Outcome]]


async def read_selected(form: Form, browsing: BrowsingService) -> list[SelectedCandidate]:
    """The selected candidates that exist, MAX_SELECTED at most, oldest first."""
    versions: dict[UUID, int] = {}
    for value in form.all(FIELD)[:MAX_SELECTED]:
        candidate_id, _, version = value.partition(":")
        try:
            versions[UUID(candidate_id)] = seen_version(version)
        except ValueError:
            continue
    found = await browsing.candidates(list(versions))
    return [SelectedCandidate(candidate, versions[candidate.candidate_id]) for candidate in found]


async def decide_all(selected: list[SelectedCandidate], decide: Decide) -> list[Result]:
    """Decide each in turn; candidates not started after SECONDS stay unchanged."""
    ends = asyncio.get_running_loop().time() + SECONDS
    results = []
    for one in selected:
        in_time = asyncio.get_running_loop().time() < ends
        outcome = await decide(one) if in_time else Outcome("warning", f"{one.candidate.company_name}: {NOT_PROCESSED}")
        results.append(Result(one.candidate, outcome))
    return results
