"""Request parameters and response bodies of events."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from provider_registration.events.models import ActorKind, Event, EventPage, EventType
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT

MAX_EVENT_ID = 2**63 - 1
# What only an admin sees: how an approval went.
OF_ADMINS = ("idempotency_key", "error")

EXAMPLE_EVENTS: dict[str, Any] = {
    "events": [
        {
            "id": "4182",
            "type": "candidate.rejected",
            "at": "2026-03-14T10:00:00.123456Z",
            "actor": {
                "kind": "user",
                "id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f",
                "name": "admin@example.com",
            },
            "version": 2,
            "data": {},
        }
    ],
    "pagination": {"next_cursor": "4182"},
}


class EventQuery(BaseModel):
    """Which events of a candidate to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum events")
    cursor: int | None = Field(
        None, ge=1, le=MAX_EVENT_ID, description="Continue after a page: its `pagination.next_cursor`"
    )


class ActorResponse(BaseModel):
    """Who caused an event."""

    model_config = ConfigDict(from_attributes=True)

    kind: ActorKind
    id: UUID | None = Field(description="The user or key; null for others")
    name: str | None = Field(description="The user's e-mail address; null for others")


class EventResponse(BaseModel):
    """One event of a candidate."""

    id: str = Field(description="The same wherever the event appears")
    type: EventType
    at: datetime = Field(description="UTC")
    actor: ActorResponse
    version: int | None = Field(description="The candidate's version after it; null if it was not recorded")
    data: dict[str, Any] = Field(
        description="`provider_id`; `linked`: true if an admin linked it; `backfilled`: true if a release without this "
        "log, or a change by hand, did not record it; for admins also `idempotency_key` and `error`"
    )

    @classmethod
    def of(cls, event: Event, *, for_admin: bool) -> Self:
        """Show an event to an admin or to a viewer."""
        data = event.data if event.error is None else {**event.data, "error": event.error}
        return cls(
            id=str(event.id),
            type=event.type,
            at=event.at,
            actor=ActorResponse.model_validate(event.actor),
            version=event.version,
            data=data if for_admin else {name: value for name, value in data.items() if name not in OF_ADMINS},
        )


class EventPagination(BaseModel):
    """The position of a page of events."""

    next_cursor: str | None = Field(description="Cursor of the next page; null on the last")


class EventListResponse(BaseModel):
    """Some events of a candidate, newest first."""

    events: list[EventResponse]
    pagination: EventPagination

    @classmethod
    def of(cls, page: EventPage, *, for_admin: bool) -> Self:
        """Show a page to an admin or to a viewer."""
        return cls(
            events=[EventResponse.of(event, for_admin=for_admin) for event in page.events],
            pagination=EventPagination(next_cursor=str(page.next) if page.next is not None else None),
        )
