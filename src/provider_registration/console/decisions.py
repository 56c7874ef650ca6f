"""Carries out decisions and describes their outcomes for the console."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from provider_registration.approvals.errors import (
    ApprovalFailed,
    ApprovalInDoubt,
    ApprovalNotFound,
    ApprovalNotInDoubt,
    ApprovalWaiting,
    BillingPaused,
    ProviderLinkedElsewhere,
    ProviderNameBusy,
    ProviderNameTaken,
)
from provider_registration.approvals.service import ApprovalService
from provider_registration.audit.models import Actor
from provider_registration.candidates.errors import (
    ApprovalInProgress,
    ApprovalNeedsResolution,
    ApprovalUnfinished,
    CandidateChanged,
    CandidateNotPending,
    VersionMismatch,
)
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.service import CandidateService
from provider_registration.errors import ServiceError
from provider_registration.events.models import EventType
from provider_registration.events.service import EventService
from provider_registration.pages.flash import Kind
from provider_registration.pages.rendering import ago
from provider_registration.web.pagination import MAX_LIMIT

MAX_SELECTED = 50  # candidates decided by one form
DECIDED_BY_OTHERS = (CandidateNotPending, VersionMismatch, CandidateChanged)
NOTIFY = "notify"  # form field
DECISIONS = (EventType.APPROVED, EventType.REJECTED)

# Expected errors, each with its message and the next step, as a format string of `error`. DatabaseUnavailable is not
# listed: it shows an error page, because the decision may or may not have been stored.
NEXT_STEPS: dict[type[ServiceError], tuple[Kind, str]] = {
    ApprovalInProgress: ("info", "An approval is already in progress. Nothing changed. Check again in a moment."),
    ApprovalUnfinished: (
        "warning",
        "An approval is waiting for billing, so you cannot reject the candidate. It completes when billing responds.",
    ),
    ApprovalNeedsResolution: (
        "warning",
        "The approval needs checking. Look for the company name in billing, then resolve the approval.",
    ),
    ApprovalNotFound: ("info", "The approval has already finished."),
    ApprovalNotInDoubt: ("info", "The approval no longer needs checking; it completes automatically."),
    ApprovalWaiting: (
        "warning",
        (
            "Billing has not confirmed yet. We retry and finish the approval automatically. Until then it is listed on "
            "the approvals page."
        ),
    ),
    ApprovalInDoubt: (
        "warning",
        (
            "We do not know whether billing created the provider: {error.reason}. Look for it in billing, then resolve "
            "the approval."
        ),
    ),
    ProviderNameBusy: (
        "warning",
        (
            "Another candidate with the same name has an unfinished approval. If it needs checking, resolve it; "
            "otherwise try again later."
        ),
    ),
}


def seen_version(text: str) -> int:
    """The version that a form was made for; 0, which no candidate has, if it is invalid."""
    return int(text) if text.isdecimal() and len(text) < len(str(2**31)) else 0


def wants_mail(choices: Sequence[str]) -> bool:
    """Whether the company gets an e-mail: unless the box was unchecked, which leaves the hidden "no" alone."""
    return list(choices) != ["no"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a decision."""

    kind: Kind
    text: str


class Decisions:
    """Carries out decisions of staff and returns their outcomes."""

    def __init__(self, candidates: CandidateService, approvals: ApprovalService, events: EventService) -> None:
        self._candidates = candidates
        self._approvals = approvals
        self._events = events

    async def approve(self, candidate: Candidate, *, actor: Actor, version: int, notify: bool) -> Outcome:
        """Approve a candidate if it still has this version."""
        work = self._approvals.approve(
            candidate.candidate_id, actor=actor, expected=frozenset({version}), notify=notify
        )
        return await self._outcome_of(candidate, work)

    async def reject(
        self, candidate: Candidate, *, actor: Actor, reason: str | None, version: int, notify: bool
    ) -> Outcome:
        """Reject a candidate if it still has this version."""
        work = self._candidates.reject(
            candidate.candidate_id, actor=actor, reason=reason, expected=frozenset({version}), notify=notify
        )
        return await self._outcome_of(candidate, work)

    async def retry(self, candidate: Candidate, *, actor: Actor) -> Outcome:
        """Retry the call to billing now."""
        return await self._outcome_of(candidate, self._approvals.retry(candidate.candidate_id, actor=actor))

    async def link(self, candidate: Candidate, provider_id: int, *, actor: Actor) -> Outcome:
        """Resolve an approval in doubt: link this provider to the candidate."""
        work = self._approvals.link(candidate.candidate_id, provider_id, actor=actor)
        return await self._outcome_of(candidate, work)

    async def let_go(self, candidate: Candidate, *, actor: Actor) -> Outcome:
        """Resolve an approval in doubt: cancel it, because billing has no provider for the candidate."""
        return await self._outcome_of(candidate, self._approvals.let_go(candidate.candidate_id, actor=actor))

    async def _outcome_of(self, candidate: Candidate, work: Awaitable[Candidate]) -> Outcome:
        name = candidate.company_name
        try:
            decided = await work
        except DECIDED_BY_OTHERS:
            return await self._decided_first(candidate)
        except (ApprovalFailed, BillingPaused, ProviderLinkedElsewhere, ProviderNameTaken) as error:
            return Outcome("danger", f"{name}: {error}")
        except tuple(NEXT_STEPS) as error:
            kind, sentence = NEXT_STEPS[type(error)]
            return Outcome(kind, f"{name}: {sentence.format(error=error)}")
        match decided.status:
            case Status.APPROVED:
                return Outcome("success", f"{name} was approved as provider {decided.provider_id}.")
            case Status.REJECTED:
                return Outcome("success", f"{name} was rejected.")
        return Outcome("success", f"{name}: the approval was cancelled. You can decide again.")

    async def _decided_first(self, seen: Candidate) -> Outcome:
        """Say who decided first, if that is recorded."""
        now = await self._candidates.browsing.candidate(seen.candidate_id)
        when = ago(now.updated_at)
        if now.status is Status.PENDING:
            return Outcome(
                "warning",
                f"{now.company_name} was changed {when}, after you opened it. Review it before you decide.",
            )
        who = await self._decided_by(now) or "Someone else"
        what = f"approved it {when} (provider {now.provider_id})" if now.provider_id else f"rejected it {when}"
        return Outcome("warning", f"{now.company_name}: {who} {what}. Your decision was not applied.")

    async def _decided_by(self, candidate: Candidate) -> str | None:
        """Who decided; None if that is not recorded."""
        page = await self._events.of_candidate(candidate.candidate_id, limit=MAX_LIMIT)
        return next((event.actor.shown_name for event in page.events if event.type in DECISIONS), None)
