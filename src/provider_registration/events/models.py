"""Models of events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.audit.models import Actor, ActorKind

# In the data of events, and for auditors and admins only: viewers and other systems do not get it.
HOW_APPROVALS_WENT = ("idempotency_key", "attempt", "error_code", "error")


class EventType(StrEnum):
    """What can happen to a candidate."""

    REGISTERED = "candidate.registered"
    APPROVAL_REQUESTED = "candidate.approval_requested"
    APPROVAL_RETRIED = "candidate.approval_retried"
    APPROVAL_FAILED = "candidate.approval_failed"
    APPROVAL_IN_DOUBT = "candidate.approval_in_doubt"
    APPROVAL_LINKED = "candidate.approval_linked"
    APPROVAL_RELEASED = "candidate.approval_released"
    APPROVED = "candidate.approved"
    REJECTED = "candidate.rejected"
    PROVIDER_ORPHANED = "candidate.provider_orphaned"
    STATUS_LINK_REPLACED = "candidate.status_link_replaced"
    ERASED = "candidate.erased"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a candidate.

    `sequence`: its number among the candidate's events, from 1; None until it is in the feed, soon after. `version`:
    the candidate's version after it; None if a release without this log recorded it. `data`: names, codes and IDs.
    `error`: why an approval failed, which may name the company; it is erased with the candidate's data.
    """

    id: int
    sequence: int | None
    type: EventType
    at: datetime
    actor: Actor
    version: int | None
    data: dict[str, Any]
    error: str | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make an event from a row of LIST_EVENTS."""
        return cls(
            id=row["id"],
            sequence=row["sequence"],
            type=EventType(row["type"]),
            at=row["at"],
            actor=Actor.from_row(row),
            version=row["version"],
            data=json.loads(row["data"]),
            error=row["error"],
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of a candidate, newest first; `next` continues after them, None at the end."""

    events: list[Event]
    next: int | None


@dataclass(frozen=True, slots=True)
class EventsWanted:
    """Which events to list: at most `limit` of a candidate, from the one before the event with the ID `before`."""

    candidate_id: UUID
    limit: int
    before: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FeedEvent:
    """One event in the feed, without personal data. Streams share it, and what they send of it."""

    position: int
    id: int
    sequence: int
    type: EventType
    at: datetime
    candidate_id: UUID
    actor_kind: ActorKind
    actor_id: UUID | None
    version: int | None
    data: dict[str, Any]

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make an event from a row of READ_FEED."""
        return cls(
            position=row["position"],
            id=row["id"],
            sequence=row["sequence"],
            type=EventType(row["type"]),
            at=row["at"],
            candidate_id=row["candidate_id"],
            actor_kind=ActorKind(row["actor_kind"]),
            actor_id=row["actor_id"],
            version=row["version"],
            data=json.loads(row["data"]),
        )


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Some events, oldest first; `next` is the position to continue after."""

    events: list[FeedEvent]
    next: int
