"""Request parameters and response bodies of the reader of both logs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from provider_registration.activity.models import ActivityFilter, ActivityPage, AnyType
from provider_registration.audit.models import AuditType
from provider_registration.events.models import EventType
from provider_registration.events.schemas import ActorResponse
from provider_registration.web.instants import Instant
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT, Cursor, NextPage, Position

EXAMPLE_ACTIVITY: dict[str, Any] = {
    "events": [
        {
            "id": "a981",
            "type": "user.role_changed",
            "at": "2026-03-14T10:00:00.123456Z",
            "actor": {"kind": "service", "id": None, "name": None},
            "subject": {"kind": "user", "id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f", "name": "maria@example.com"},
            "version": None,
            "data": {"role": "admin", "previous_role": "viewer"},
        }
    ],
    "pagination": {"next_cursor": "AAZFJk3xWZULjzxSlLFMQ58Oah9fLXwR"},
}


*_first, _last = (f"'{each}'" for each in (*AuditType, *EventType))
EXPECTED_TYPES = f"{', '.join(_first)} or {_last}"


def _known_type(value: object) -> object:
    """The type that a parameter names: for the two kinds together, one error instead of one for each."""
    for kind in (AuditType, EventType):
        if isinstance(value, str) and value in list(kind):
            return kind(value)
    raise PydanticCustomError("enum", "Input should be {expected}", {"expected": EXPECTED_TYPES})


TypeParameter = Annotated[AnyType, BeforeValidator(_known_type)]


class ActivityFilterQuery(BaseModel):
    """Which events of both logs."""

    model_config = ConfigDict(extra="forbid")

    actor: UUID | None = Field(None, description="Only what this user or API key did")
    type: TypeParameter | None = Field(None, description="Only events of this type")
    since: Instant | None = Field(None, alias="from", description="Only events at or after this time")
    until: Instant | None = Field(None, alias="to", description="Only events before this time")

    def to_filter(self) -> ActivityFilter:
        """The filter."""
        return ActivityFilter(self.actor, self.type, self.since, self.until)


class ActivityQuery(ActivityFilterQuery):
    """Which events of both logs, and which page."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum events")
    cursor: Cursor | None = Field(
        None, description="Continue after a page: its `pagination.next_cursor`, with the same filters"
    )

    @property
    def position(self) -> Position | None:
        """Where the previous page ended."""
        return Position.from_cursor(self.cursor) if self.cursor else None


class SubjectResponse(BaseModel):
    """What an event is about."""

    model_config = ConfigDict(from_attributes=True)

    kind: str = Field(description="Such as `candidate` or `user`")
    id: UUID
    name: str | None = Field(description="The company's name, or the user's e-mail address; null for others")


class ActivityResponse(BaseModel):
    """An event of one of the logs."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(description="Begins with `a` if the event is in the log of staff and commands")
    type: AnyType
    at: datetime = Field(description="UTC")
    actor: ActorResponse
    subject: SubjectResponse | None = Field(description="Null if the event is about nothing that has an ID")
    version: int | None = Field(description="The candidate's version after it; null for other events")
    data: dict[str, Any] = Field(
        description="As in `GET /candidates/{candidate_id}/events`; otherwise it depends on the type"
    )


class ActivityListResponse(BaseModel):
    """Some events of both logs, newest first."""

    events: list[ActivityResponse]
    pagination: NextPage

    @classmethod
    def of(cls, page: ActivityPage) -> Self:
        """Show a page."""
        return cls(
            events=[ActivityResponse.model_validate(event) for event in page.events],
            pagination=NextPage(next_cursor=page.next.to_cursor() if page.next else None),
        )
