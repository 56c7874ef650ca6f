"""Deciding, and what came of it in a sentence for whoever decided."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from uuid import UUID

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
from provider_registration.approvals.models import ApprovalEvent, ApprovalRecord
from provider_registration.approvals.service import ApprovalService
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
from provider_registration.pages.notices import Kind
from provider_registration.pages.rendering import ago

MOST_AT_ONCE = 50  # candidates that one form decides about
TOO_LATE = (CandidateNotPending, VersionMismatch, CandidateChanged)
BEGUN = (ApprovalEvent.REQUESTED, ApprovalEvent.RETRY_REQUESTED, ApprovalEvent.LINKED)

# What is refused or fails, and what happens next. A database that does not answer is not among these: it is an error
# page, since nobody knows then whether the decision was stored.
NEXT_STEPS: dict[type[ServiceError], tuple[Kind, str]] = {
    ApprovalInProgress: ("info", "It is being approved right now. Look again in a moment: nothing else was done."),
    ApprovalUnfinished: (
        "warning",
        "An approval waits for billing, so it cannot be rejected. It completes by itself as soon as billing answers.",
    ),
    ApprovalNeedsResolution: (
        "warning",
        "Its approval is in doubt. Look for its name in billing, then resolve the approval.",
    ),
    ApprovalNotFound: ("info", "There is no unfinished approval of it any more."),
    ApprovalNotInDoubt: ("info", "Its approval is not in doubt any more; it completes by itself."),
    ApprovalWaiting: (
        "warning",
        (
            "Billing may have made the provider, but its answer did not come. The approval completes by itself, and is "
            "on the approvals page until then."
        ),
    ),
    ApprovalInDoubt: (
        "warning",
        (
            "Billing already has a provider of this name, and it may be the one that an earlier try made. Look for it "
            "in billing, then resolve the approval."
        ),
    ),
    ProviderNameBusy: ("warning", "Another candidate of the same name is being approved. Try again after that."),
    ProviderNameTaken: ("danger", "Billing already has another provider of this name. Nothing was changed."),
}


def seen_version(text: str) -> int:
    """The version that a form was made for; one that no candidate has if it does not say."""
    return int(text) if text.isdecimal() and len(text) < len(str(2**31)) else 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision. `is_done`: what was asked for is so now, by this very request."""

    kind: Kind
    text: str
    is_done: bool = False


class Decisions:
    """Carries out what members of staff decide, and tells them what became of it."""

    def __init__(self, candidates: CandidateService, approvals: ApprovalService) -> None:
        self._candidates = candidates
        self._approvals = approvals

    async def approve(self, candidate: Candidate, *, user_id: UUID, version: int) -> Outcome:
        """Approve a candidate that was seen at a version."""
        work = self._approvals.approve(candidate.candidate_id, user_id=user_id, expected=frozenset({version}))
        return await self._told(candidate, work)

    async def reject(self, candidate: Candidate, *, user_id: UUID, reason: str | None, version: int) -> Outcome:
        """Reject a candidate that was seen at a version."""
        work = self._candidates.reject(
            candidate.candidate_id, user_id=user_id, reason=reason, expected=frozenset({version})
        )
        return await self._told(candidate, work)

    async def retry(self, candidate: Candidate, *, user_id: UUID) -> Outcome:
        """Ask billing again now."""
        return await self._told(candidate, self._approvals.retry(candidate.candidate_id, user_id=user_id))

    async def link(self, candidate: Candidate, provider_id: int, *, user_id: UUID) -> Outcome:
        """Resolve an approval in doubt: this provider is the candidate's."""
        work = self._approvals.link(candidate.candidate_id, provider_id, user_id=user_id)
        return await self._told(candidate, work)

    async def let_go(self, candidate: Candidate, *, user_id: UUID) -> Outcome:
        """Resolve an approval in doubt: billing has no provider of the candidate's."""
        return await self._told(candidate, self._approvals.let_go(candidate.candidate_id, user_id=user_id))

    async def _told(self, candidate: Candidate, work: Awaitable[Candidate]) -> Outcome:
        name = candidate.company_name
        try:
            decided = await work
        except TOO_LATE:
            return await self._too_late(candidate)
        except (ApprovalFailed, BillingPaused, ProviderLinkedElsewhere) as error:
            return Outcome("danger", f"{name}: {error}")
        except tuple(NEXT_STEPS) as error:
            kind, sentence = NEXT_STEPS[type(error)]
            return Outcome(kind, f"{name}: {sentence}")
        match decided.status:
            case Status.APPROVED:
                return Outcome("success", f"{name} is approved, as provider {decided.provider_id}.", is_done=True)
            case Status.REJECTED:
                return Outcome("success", f"{name} is rejected.", is_done=True)
        return Outcome("success", f"{name}: the approval is let go. It can be decided anew.", is_done=True)

    async def _too_late(self, seen: Candidate) -> Outcome:
        """Say who was faster, as far as that is recorded."""
        now = await self._candidates.browsing.candidate(seen.candidate_id)
        when = ago(now.updated_at)
        if now.status is Status.PENDING:
            return Outcome(
                "warning", f"{now.company_name} was changed {when}, after you opened it. Look at it again, then decide."
            )
        who = await self._decided_by(now) or "Somebody else"
        verb = f"approved it, as provider {now.provider_id}," if now.provider_id else "rejected it"
        return Outcome("warning", f"{now.company_name}: {who} {verb} {when}. Your decision changed nothing.")

    async def _decided_by(self, candidate: Candidate) -> str | None:
        """Who decided about a candidate; None where that was not recorded yet."""
        user_id = candidate.rejected_by
        if candidate.status is Status.APPROVED:
            user_id = asked_by(await self._approvals.history(candidate.candidate_id))
        return (await self._candidates.browsing.names({user_id})).get(user_id) if user_id else None


def asked_by(records: list[ApprovalRecord]) -> UUID | None:
    """Who asked last, of records newest first."""
    return next((record.user_id for record in records if record.event in BEGUN), None)
