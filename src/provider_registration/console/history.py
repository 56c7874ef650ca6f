"""What happened to a candidate, as far as it is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from provider_registration.approvals.models import ApprovalEvent, ApprovalRecord
from provider_registration.approvals.service import ApprovalService
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.service import CandidateService

SENTENCES = {
    ApprovalEvent.REQUESTED: "Approval asked for",
    ApprovalEvent.RETRY_REQUESTED: "Another try asked for",
    ApprovalEvent.FAILED: "The approval failed",
    ApprovalEvent.IN_DOUBT: "The approval is in doubt",
    ApprovalEvent.LINKED: "Resolved: the provider in billing is this company's",
    ApprovalEvent.LET_GO: "Resolved: the approval was let go",
    ApprovalEvent.APPROVED: "Approved: billing has the provider",
    ApprovalEvent.ORPHANED: "Billing made a provider that no candidate is linked to",
}


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
            SENTENCES[record.event],
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
