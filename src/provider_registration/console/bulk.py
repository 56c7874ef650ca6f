"""Pages for deciding several candidates with one form: a confirmation, then a job."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from fastapi import APIRouter
from starlette.responses import Response

from provider_registration.bulk.dependencies import BulkServiceDep
from provider_registration.bulk.models import BulkDecision, Decision, Matching
from provider_registration.bulk.service import BulkService
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import Candidate
from provider_registration.candidates.selection import MAX_WORDS_LENGTH, Order, Selection
from provider_registration.console.decisions import MAX_SELECTED, NOTIFY, Outcome, seen_version, wants_mail
from provider_registration.console.dependencies import DecidingUserDep
from provider_registration.console.layout import JOBS, SELECTED, Layout, LayoutDep
from provider_registration.console.reasons import parse_reason, reason_values
from provider_registration.jobs.dependencies import JobServiceDep
from provider_registration.jobs.errors import TooManyJobs
from provider_registration.jobs.models import MAX_ITEMS, NewItem
from provider_registration.jobs.service import JobService
from provider_registration.pages.forms import Form, FormDep
from provider_registration.web.server import STOPPING

router = APIRouter(include_in_schema=False)

FIELD = "mark"
LIST = "matching"  # form field of the list: the selection that it shows
SELECTION = "selection"  # form field of the confirmation: the selection that was confirmed
JOB_ID = "job"  # form field: a form that is sent twice makes one job
MAX_SELECTION_LENGTH = 2000  # characters
ALL = "all-"  # before a decision about all that match
SHOWN = 5  # of those that match
WAIT_SECONDS = 3.0  # for a small job, so that its page has the results at once

NONE_SELECTED = Outcome("info", "Select at least one candidate first.")
NONE_MATCH = Outcome("info", "No candidates match any more.")


@router.post(SELECTED)
async def confirm_selected(
    _signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    layout: LayoutDep,
) -> Response:
    """List the selected companies, or say how many match, and ask for confirmation."""
    decision = form.get("decision").removeprefix(ALL)
    is_all = form.get("decision").startswith(ALL)
    chosen = await read_chosen(form, service.browsing, list_field=LIST if is_all else SELECTION)
    return _confirmation(layout, chosen, form, Decision.APPROVE if decision == "approve" else Decision.REJECT)


@router.post(f"{SELECTED}/approve")
async def approve_selected(
    _signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    bulk: BulkServiceDep,
    jobs: JobServiceDep,
    layout: LayoutDep,
) -> Response:
    """Approve them in a job, and show it."""
    chosen = await read_chosen(form, service.browsing, list_field=SELECTION)
    wanted = _wanted(form, chosen, Decision.APPROVE, None) if chosen else None
    return await _start(layout, wanted, bulk, jobs)


@router.post(f"{SELECTED}/reject")
async def reject_selected(
    _signed_in: DecidingUserDep,
    form: FormDep,
    service: CandidateServiceDep,
    bulk: BulkServiceDep,
    jobs: JobServiceDep,
    layout: LayoutDep,
) -> Response:
    """Reject them for one reason in a job, and show it; show the form again if the reason is invalid."""
    chosen = await read_chosen(form, service.browsing, list_field=SELECTION)
    parsed = parse_reason(form)
    if parsed.error:
        return _confirmation(layout, chosen, form, Decision.REJECT, status=422, **reason_values(parsed, form))
    wanted = _wanted(form, chosen, Decision.REJECT, parsed.reason) if chosen else None
    return await _start(layout, wanted, bulk, jobs)


@dataclass(frozen=True, slots=True)
class SelectedCandidate:
    """A candidate and the version that the list showed."""

    candidate: Candidate
    version: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a form is about: candidates, or a selection with some of its candidates.

    `total`: how many; None if there are more than are counted.
    """

    candidates: list[SelectedCandidate]
    total: int | None
    selection: Selection | None = None

    @property
    def decided(self) -> int:
        """How many one job decides."""
        return min(MAX_ITEMS, MAX_ITEMS if self.total is None else self.total)


async def read_chosen(form: Form, browsing: BrowsingService, *, list_field: str) -> Chosen | None:
    """The candidates that were marked, or those that match the selection in a field; None without any.

    A selection has no candidates that register after the confirmation was shown.
    """
    if not form.get(list_field):
        selected = await read_selected(form, browsing)
        return Chosen(selected, len(selected)) if selected else None
    selection = parse_selection(form.get(list_field))
    if selection is None:
        return None
    now = datetime.now(UTC)
    until = min(selection.registered_to, now) if selection.registered_to else now
    selection = replace(selection, registered_to=until, order=Order.OLDEST)
    found = await browsing.page(selection, limit=SHOWN)
    shown = [SelectedCandidate(candidate, candidate.version) for candidate in found.candidates]
    return Chosen(shown, found.total, selection) if shown else None


def parse_selection(text: str) -> Selection | None:
    """The selection in a form field; None if it is not one of ours."""
    if len(text) > MAX_SELECTION_LENGTH:
        return None
    try:
        selection = Selection.from_json(json.loads(text))
    except (ValueError, RecursionError):
        return None
    return selection if len(selection.words) <= MAX_WORDS_LENGTH else None


async def read_selected(form: Form, browsing: BrowsingService) -> list[SelectedCandidate]:
    """The marked candidates that exist, MAX_SELECTED at most, oldest first."""
    versions: dict[UUID, int] = {}
    for value in form.all(FIELD)[:MAX_SELECTED]:
        candidate_id, _, version = value.partition(":")
        try:
            versions[UUID(candidate_id)] = seen_version(version)
        except ValueError:
            continue
    found = await browsing.candidates(list(versions))
    return [SelectedCandidate(candidate, versions[candidate.candidate_id]) for candidate in found]


def _confirmation(
    layout: Layout,
    chosen: Chosen | None,
    form: Form,
    decision: Decision,
    *,
    status: int = 200,
    **values: object,
) -> Response:
    if chosen is None:
        return layout.redirect(layout.list_path, NONE_SELECTED)
    return layout.page(
        "bulk.html",
        status=status,
        chosen=chosen,
        selection=json.dumps(chosen.selection.to_json()) if chosen.selection else None,
        decision=decision,
        job_id=_job_id(form),
        **{**reason_values(typed=form), **values},
    )


def _job_id(form: Form) -> UUID:
    try:
        return UUID(form.get(JOB_ID))
    except ValueError:
        return uuid4()


def _wanted(form: Form, chosen: Chosen, decision: Decision, reason: str | None) -> BulkDecision:
    candidates: list[NewItem] | Matching
    if chosen.selection is not None:
        candidates = Matching(chosen.selection, MAX_ITEMS)
    else:
        candidates = [NewItem(one.candidate.candidate_id, one.version) for one in chosen.candidates]
    return BulkDecision(_job_id(form), decision, reason, wants_mail(form.all(NOTIFY)), candidates)


async def _start(layout: Layout, wanted: BulkDecision | None, bulk: BulkService, jobs: JobService) -> Response:
    if wanted is None:
        return layout.redirect(layout.list_path, NONE_MATCH)
    try:
        job_id = await bulk.start(wanted, actor=layout.signed_in.user.actor)
    except TooManyJobs as error:
        return layout.redirect(layout.list_path, Outcome("warning", str(error)))
    stopping: asyncio.Event = layout.request.scope["state"][STOPPING]
    await jobs.wait(job_id, WAIT_SECONDS, stopping)
    return layout.redirect(f"{JOBS}/{job_id}")
