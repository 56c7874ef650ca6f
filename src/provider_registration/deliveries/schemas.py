"""Request parameters and response bodies of deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from provider_registration.deliveries.models import DeliveryPage, Kind, ListedDelivery, State
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT, IdCursor, NextPage

EXAMPLE_DELIVERIES: dict[str, Any] = {
    "deliveries": [
        {
            "delivery_id": "913",
            "kind": "email",
            "target": "applicant",
            "event": {
                "id": "4182",
                "type": "candidate.rejected",
                "candidate_id": "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11",
            },
            "state": "pending",
            "attempts": 2,
            "next_attempt_at": "2026-03-14T10:05:00.123456Z",
            "last_status": 451,
            "last_error": "451 4.7.1 to RCPT",
            "created_at": "2026-03-14T10:00:00.123456Z",
            "updated_at": "2026-03-14T10:01:00.123456Z",
        }
    ],
    "pagination": {"next_cursor": None},
}


class DeliveryQuery(BaseModel):
    """Which deliveries to list."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind | None = Field(None, description="Only of this kind")
    state: State | None = Field(None, description="Only in this state")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum deliveries")
    cursor: IdCursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


class AboutEvent(BaseModel):
    """The event that a message is about."""

    id: str
    type: str
    candidate_id: UUID


class DeliveryResponse(BaseModel):
    """One message to one target."""

    delivery_id: str
    kind: Kind
    target: str = Field(
        description="Who gets it: `applicant`, `staff:2` (the second address in STAFF_MAIL_TO) or the ID of a webhook"
    )
    event: AboutEvent | None = Field(
        description="What it is about, in a digest the newest registration; null for a link that was requested "
        "and for news of a webhook"
    )
    state: State = Field(
        description="`failed`: refused for good; `dead`: its attempts are used up, or its webhook was deleted; "
        "`unknown`: it may have been accepted, and is not sent again automatically"
    )
    attempts: int
    next_attempt_at: datetime | None = Field(
        description="UTC; while `delivering`, when another process may take over; null when it is not tried again"
    )
    last_status: int | None = Field(description="The last status code, of SMTP or HTTP")
    last_error: str | None
    created_at: datetime = Field(description="UTC")
    updated_at: datetime = Field(description="UTC")

    @classmethod
    def of(cls, record: ListedDelivery) -> Self:
        """Show a delivery."""
        event = None
        if record.event_id is not None and record.event_type is not None and record.candidate_id is not None:
            event = AboutEvent(id=str(record.event_id), type=record.event_type, candidate_id=record.candidate_id)
        return cls(
            delivery_id=str(record.id),
            kind=Kind(record.kind),
            target=record.target,
            event=event,
            state=record.state,
            attempts=record.attempts,
            next_attempt_at=record.next_attempt_at,
            last_status=record.last_status,
            last_error=record.last_error,
            created_at=record.created_at,
            updated_at=record.updated_at,
        )


class DeliveryListResponse(BaseModel):
    """Some deliveries, newest first."""

    deliveries: list[DeliveryResponse]
    pagination: NextPage

    @classmethod
    def of(cls, page: DeliveryPage) -> Self:
        """Show a page."""
        return cls(
            deliveries=[DeliveryResponse.of(record) for record in page.deliveries],
            pagination=NextPage(next_cursor=str(page.next) if page.next is not None else None),
        )
