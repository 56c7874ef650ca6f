"""Request parameters and response bodies of events."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from provider_registration.audit.models import ActorKind
from provider_registration.events.errors import CursorUnknown
from provider_registration.events.models import HOW_APPROVALS_WENT, Event, EventPage, EventType, FeedEvent, FeedPage
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT, IdCursor, NextPage
from provider_registration.web.text import OpaqueText

LATEST = "latest"
CURSOR_OR_LATEST = r"^([0-9]{1,18}|latest)$"
POSITION = re.compile("[0-9]{1,18}")
MAX_TYPES_LENGTH = 1000  # characters: all types together have fewer
MAX_FEED = 1000  # events in a page of the feed

EXAMPLE_ACTOR: dict[str, Any] = {
    "kind": "user",
    "id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f",
    "name": "admin@example.com",
}
EXAMPLE_EVENTS: dict[str, Any] = {
    "events": [
        {
            "id": "4182",
            "sequence": 2,
            "type": "candidate.rejected",
            "at": "2026-03-14T10:00:00.123456Z",
            "actor": EXAMPLE_ACTOR,
            "version": 2,
            "data": {},
        }
    ],
    "pagination": {"next_cursor": "4182"},
}


EXAMPLE_FEED: dict[str, Any] = {
    "events": [
        {
            "id": "4182",
            "sequence": 2,
            "type": "candidate.rejected",
            "at": "2026-03-14T10:00:00.123456Z",
            "candidate_id": "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11",
            "actor": {"kind": "user", "id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f"},
            "version": 2,
            "data": {},
        }
    ],
    "next_after": "971",
}


EXAMPLE_STREAM = f"id: 970\nretry: 2000\n\nid: 971\ndata: {json.dumps(EXAMPLE_FEED['events'][0])}\n\n"


class EventQuery(BaseModel):
    """Which events of a candidate to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum events")
    cursor: IdCursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


def _types(value: str) -> str:
    if not set(value.split(",")) <= set(EventType):
        raise PydanticCustomError("event_types", "Input should be types of events, separated by commas")
    return value


def position_of(cursor: str) -> int:
    """The position of a cursor.

    Raises:
        CursorUnknown: it is none of ours.
    """
    if not POSITION.fullmatch(cursor):
        raise CursorUnknown
    return int(cursor)


class StreamQuery(BaseModel):
    """Which events to follow."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[OpaqueText, Field(pattern=CURSOR_OR_LATEST)] | None = Field(
        None,
        description="Continue after this cursor: `next_after` of a page, or the `id:` line of a server-sent event, not "
        "the `id` inside an event; `latest`, or none: begin with what happens from now on",
    )
    types: Annotated[str, Field(max_length=MAX_TYPES_LENGTH), AfterValidator(_types)] | None = Field(
        None, description="Only events of these types, separated by commas"
    )

    @property
    def wanted(self) -> Sequence[EventType]:
        """The types to read."""
        return [EventType(each) for each in self.types.split(",")] if self.types else tuple(EventType)


class FeedQuery(StreamQuery):
    """Which events to read."""

    after: Annotated[OpaqueText, Field(pattern=CURSOR_OR_LATEST)] | None = Field(
        None,
        description="Continue after this cursor: `next_after` of a page, or `latest` to begin with what happens from "
        "now on; default: after the last event that was removed",
    )
    limit: int = Field(MAX_LIMIT, ge=1, le=MAX_FEED, description="Maximum events")


class ActorResponse(BaseModel):
    """Who caused an event."""

    model_config = ConfigDict(from_attributes=True)

    kind: ActorKind
    id: UUID | None = Field(description="The user or API key; null for others")
    name: str | None = Field(description="The user's e-mail address, or the API key's name; null for others")


class EventResponse(BaseModel):
    """One event of a candidate."""

    id: str = Field(description="The same wherever the event appears")
    sequence: int | None = Field(
        description="Its number among the candidate's events, from 1; null until it is in the feed, a second later"
    )
    type: EventType
    at: datetime = Field(description="UTC")
    actor: ActorResponse
    version: int | None = Field(description="The candidate's version after it; null if it was not recorded")
    data: dict[str, Any] = Field(
        description="`provider_id`; `linked`: true if an admin linked it; `notify`: false if the company gets no "
        "e-mail; `backfilled`: true if it was recorded later, because an earlier release or a manual change did not; "
        "for auditors and admins also `idempotency_key`, `attempt`, `error_code` and `error`"
    )

    @classmethod
    def of(cls, event: Event, *, with_errors: bool) -> Self:
        """Show an event; viewers do not see its error."""
        data = event.data if event.error is None else {**event.data, "error": event.error}
        return cls(
            id=str(event.id),
            sequence=event.sequence,
            type=event.type,
            at=event.at,
            actor=ActorResponse.model_validate(event.actor),
            version=event.version,
            data=data
            if with_errors
            else {name: value for name, value in data.items() if name not in HOW_APPROVALS_WENT},
        )


class FeedActor(BaseModel):
    """Who caused an event, without a name: a feed is copied to other systems."""

    kind: ActorKind
    id: UUID | None = Field(description="The user or API key; null for others")


class FeedEventResponse(BaseModel):
    """One event in the feed."""

    id: str = Field(description="The same wherever the event appears")
    sequence: int = Field(description="Its number among the candidate's events, from 1")
    type: EventType
    at: datetime = Field(description="UTC")
    candidate_id: UUID
    actor: FeedActor
    version: int | None = Field(description="The candidate's version after it; null if it was not recorded")
    data: dict[str, Any] = Field(description="As in the events of a candidate, without `error`")

    @classmethod
    def of(cls, event: FeedEvent) -> Self:
        """Show an event."""
        return cls(
            id=str(event.id),
            sequence=event.sequence,
            type=event.type,
            at=event.at,
            candidate_id=event.candidate_id,
            actor=FeedActor(kind=event.actor_kind, id=event.actor_id),
            version=event.version,
            data=event.data,
        )


class FeedResponse(BaseModel):
    """Some events, oldest first."""

    events: list[FeedEventResponse]
    next_after: str = Field(description="`after` of the next request, even if there are no events")

    @classmethod
    def of(cls, page: FeedPage) -> Self:
        """Show a page."""
        return cls(events=[FeedEventResponse.of(event) for event in page.events], next_after=str(page.next))


class EventListResponse(BaseModel):
    """Some events of a candidate, newest first."""

    events: list[EventResponse]
    pagination: NextPage

    @classmethod
    def of(cls, page: EventPage, *, with_errors: bool) -> Self:
        """Show a page; viewers do not see errors."""
        return cls(
            events=[EventResponse.of(event, with_errors=with_errors) for event in page.events],
            pagination=NextPage(next_cursor=str(page.next) if page.next is not None else None),
        )
