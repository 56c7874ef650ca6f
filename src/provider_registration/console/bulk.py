"""The pages for deciding about several candidates with one form, one after another within a bounded time."""

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
from provider_registration.console.decisions import MOST_AT_ONCE, Outcome, seen_version
from provider_registration.console.dependencies import DecidingUserDep, DecisionsDep
from provider_registration.console.layout import CANDIDATES, MARKED, LayoutDep
from provider_registration.console.reasons import asking_for_reason, read_reason
from provider_registration.pages.forms import Form, FormDep

router = APIRouter(include_in_schema=False)

SECONDS = 20.0  # after which no further decision is begun
MARK = "mark"

NOBODY_MARKED = Outcome("info", "Nobody is marked: mark candidates in the list first.")
NOT_BEGUN = "There was no time left for it. Nothing was changed: mark it again."


@router.post(MARKED)
async def ask_about_marked(
    _signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    layout: LayoutDep,
) -> Response:
    """Name the marked companies, and ask whether it is they who are meant."""
    marked = await read_marks(form, service.browsing)
    if not marked:
        return layout.lead_to(CANDIDATES, NOBODY_MARKED)
    return layout.page(
        "bulk.html",
        marked=marked,
        most=MOST_AT_ONCE,
        is_approval=form.get("decision") == "approve",
        **asking_for_reason(typed=form),
    )


@router.post(f"{MARKED}/approve")
async def approve_marked(
    signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Approve each of them, and tell what came of it."""
    user_id = signed_in.user.user_id
    results = await decide_all(
        await read_marks(form, service.browsing),
        lambda marked: decisions.approve(marked.candidate, user_id=user_id, version=marked.version),
    )
    return layout.page("bulk_results.html", results=results)


@router.post(f"{MARKED}/reject")
async def reject_marked(
    signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    decisions: DecisionsDep,
    layout: LayoutDep,
) -> Response:
    """Reject each of them for one reason, and tell what came of it; or ask for the reason again."""
    marked = await read_marks(form, service.browsing)
    read = read_reason(form)
    if read.error:
        return layout.page(
            "bulk.html",
            status=422,
            marked=marked,
            most=MOST_AT_ONCE,
            is_approval=False,
            **asking_for_reason(read, form),
        )
    results = await decide_all(
        marked,
        lambda one: decisions.reject(
            one.candidate, user_id=signed_in.user.user_id, reason=read.reason, version=one.version
        ),
    )
    return layout.page("bulk_results.html", results=results)


@dataclass(frozen=True, slots=True)
class Marked:
    """A candidate that was marked, and the version that was seen."""

    candidate: Candidate
    version: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the decision about one candidate."""

    candidate: Candidate
    outcome: Outcome


Decide = Callable[[Marked], Awaitable[Outcome]]


async def read_marks(form: Form, browsing: BrowsingService) -> list[Marked]:
    """The marked candidates that there are, MOST_AT_ONCE at most, in the order of the list."""
    versions: dict[UUID, int] = {}
    for mark in form.all(MARK)[:MOST_AT_ONCE]:
        candidate_id, _, version = mark.partition(":")
        try:
            versions[UUID(candidate_id)] = seen_version(version)
        except ValueError:
            continue
    found = await browsing.candidates(list(versions))
    return [Marked(candidate, versions[candidate.candidate_id]) for candidate in found]


async def decide_all(marked: list[Marked], decide: Decide) -> list[Result]:
    """Decide about each in turn; what has not begun after SECONDS stays as it is."""
    ends = asyncio.get_running_loop().time() + SECONDS
    results = []
    for one in marked:
        in_time = asyncio.get_running_loop().time() < ends
        outcome = await decide(one) if in_time else Outcome("warning", f"{one.candidate.company_name}: {NOT_BEGUN}")
        results.append(Result(one.candidate, outcome))
    return results
