"""Models of deliveries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import RowMapping

WEBHOOK_DELETED = "the webhook was deleted"  # the last error of what was still to be sent to it


class Kind(StrEnum):
    """How a message is sent."""

    EMAIL = "email"
    WEBHOOK = "webhook"


class State(StrEnum):
    """The state of a message.

    `failed`: refused for good. `dead`: not accepted before its attempts were used up, or its webhook was deleted.
    `unknown`: it may have been accepted, and is not sent again automatically.
    """

    PENDING = "pending"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    FAILED = "failed"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EventToSend:
    """The event that a message is about."""

    id: int
    type: str
    at: datetime
    candidate_id: UUID
    version: int | None
    sequence: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was claimed: the process that holds it sends it before `lease_ends_at`, by the database's clock.

    `attempts` includes this one. `data` and `event.data` have no personal data.
    """

    id: int
    kind: Kind
    target: str
    attempts: int
    lease_ends_at: datetime
    created_at: datetime
    data: dict[str, Any]
    event: EventToSend | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a delivery from a row of CLAIM_DELIVERIES."""
        event = None
        if row["event_id"] is not None:
            event = EventToSend(
                id=row["event_id"],
                type=row["type"],
                at=row["at"],
                candidate_id=row["candidate_id"],
                version=row["version"],
                sequence=row["sequence"],
                data=json.loads(row["event_data"]),
            )
        return cls(
            id=row["id"],
            kind=Kind(row["kind"]),
            target=row["target"],
            attempts=row["attempts"],
            lease_ends_at=row["lease_ends_at"],
            created_at=row["created_at"],
            data=json.loads(row["data"]),
            event=event,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt; `error` and `status` name no person. `retry_after` is in seconds, only if PENDING."""

    state: State
    error: str | None = None
    status: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class ListedDelivery:
    """A delivery as staff see it."""

    id: int
    kind: str
    target: str
    event_id: int | None
    event_type: str | None
    candidate_id: UUID | None
    state: State
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a delivery from a row of LIST_DELIVERIES."""
        return cls(**{**row, "state": State(row["state"])})


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries, newest first; `next` continues after them, None at the end."""

    deliveries: list[ListedDelivery]
    next: int | None
