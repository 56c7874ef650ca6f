"""Models of unfinished approvals and their events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.audit.models import Actor, ActorKind
from provider_registration.candidates.models import ApprovalState, ApprovalSummary
from provider_registration.events.models import EventType
from provider_registration.web.pagination import Position


class ApprovalEvent(StrEnum):
    """The kinds of events of an approval, as its list names them."""

    REQUESTED = "requested"
    RETRY_REQUESTED = "retry_requested"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    LINKED = "linked"
    LET_GO = "let_go"
    APPROVED = "approved"
    ORPHANED = "orphaned"


EVENT_OF_TYPE = {
    EventType.APPROVAL_REQUESTED: ApprovalEvent.REQUESTED,
    EventType.APPROVAL_RETRIED: ApprovalEvent.RETRY_REQUESTED,
    EventType.APPROVAL_FAILED: ApprovalEvent.FAILED,
    EventType.APPROVAL_IN_DOUBT: ApprovalEvent.IN_DOUBT,
    EventType.APPROVAL_LINKED: ApprovalEvent.LINKED,
    EventType.APPROVAL_RELEASED: ApprovalEvent.LET_GO,
    EventType.APPROVED: ApprovalEvent.APPROVED,
    EventType.PROVIDER_ORPHANED: ApprovalEvent.ORPHANED,
}


@dataclass(frozen=True, slots=True)
class Approval(ApprovalSummary):
    """An approval that is not finished: the intent that the claim wrote."""

    candidate_id: UUID
    idempotency_key: UUID
    provider_name: str
    actor: Actor

    @property
    def requested_by(self) -> UUID | None:
        """The ID of the user or API key that requested it."""
        return self.actor.id

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make an approval from a row of `unfinished_approvals`."""
        return cls(
            state=ApprovalState(row["state"]),
            requested_at=row["requested_at"],
            attempts=row["attempts"],
            next_attempt_at=row["next_attempt_at"] if row["state"] == ApprovalState.WAITING else None,
            last_error=row["last_error"],
            candidate_id=row["candidate_id"],
            idempotency_key=row["idempotency_key"],
            provider_name=row["provider_name"],
            actor=Actor.from_row(row),
        )


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A request to claim an approval. `expected` has the versions that the actor may have seen; None: any.

    `is_retry`: claim only an approval that already exists. `notify`: the company gets an e-mail when it is approved.
    `job_id`: the job that requests it, if one does.
    """

    candidate_id: UUID
    idempotency_key: UUID
    claim_id: UUID
    actor: Actor
    expected: frozenset[int] | None
    is_retry: bool
    notify: bool = True
    job_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to request one candidate's provider from billing until the lease expires.

    `maybe_sent`: an earlier holder may have sent the request.
    """

    candidate_id: UUID
    candidate_version: int
    claim_id: UUID
    idempotency_key: UUID
    provider_name: str
    attempts: int
    maybe_sent: bool

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a claim from a row of `approval_intents` with the candidate's version."""
        return cls(
            candidate_id=row["candidate_id"],
            candidate_version=row["candidate_version"],
            claim_id=row["claim_id"],
            idempotency_key=row["idempotency_key"],
            provider_name=row["provider_name"],
            attempts=row["attempts"],
            maybe_sent=row["attempts"] > 1,
        )


@dataclass(frozen=True, slots=True)
class CreatedProvider:
    """The provider that billing created for an approval; `actor`: who linked it, if anybody did."""

    candidate_id: UUID
    candidate_version: int
    idempotency_key: UUID
    provider_id: int
    actor: Actor | None = None


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """One event of an approval."""

    id: int
    event: ApprovalEvent
    at: datetime
    actor: Actor
    provider_id: int | None
    detail: str | None

    @property
    def user_id(self) -> UUID | None:
        """The user who caused it, of `approved` who requested it last; None for others."""
        return self.actor.id if self.actor.kind is ActorKind.USER else None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a record from a row of LIST_EVENTS."""
        return cls(
            id=row["id"],
            event=EVENT_OF_TYPE[EventType(row["type"])],
            at=row["at"],
            actor=Actor.from_row(row),
            provider_id=row["provider_id"],
            detail=row["detail"],
        )


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """One page of the unfinished approvals, how many there are, and the position of the next page, if any."""

    approvals: list[Approval]
    total: int
    next: Position | None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some events of an approval, and the ID before which the next page begins, if any."""

    records: list[ApprovalRecord]
    next: int | None
