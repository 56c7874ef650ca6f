"""Models of the reader of both logs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.audit.models import Actor, AuditType, Subject
from provider_registration.events.models import EventType
from provider_registration.web.pagination import Position

AnyType = AuditType | EventType


@dataclass(frozen=True, slots=True)
class ActivityFilter:
    """Which events to read; None: any. `since` is the earliest time, and `until` the first that is too late."""

    actor: UUID | None = None
    type: AnyType | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def names(self) -> list[str]:
        """Which filters are set, by their names in the API."""
        filters = {"actor": self.actor, "type": self.type, "from": self.since, "to": self.until}
        return [name for name, value in filters.items() if value is not None]


@dataclass(frozen=True, slots=True)
class Activity:
    """An event of one of the logs; the fields are those of `Event`, with what it is about."""

    id: str
    type: AnyType
    at: datetime
    actor: Actor
    subject: Subject | None
    version: int | None
    data: dict[str, Any]
    position: Position

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make an event from a row of a page."""
        is_audit, data = row["is_audit"], json.loads(row["data"])
        subject = row["subject_kind"] and Subject(row["subject_kind"], row["subject_id"], row["subject_name"])
        return cls(
            id=f"a{row['id']}" if is_audit else str(row["id"]),
            type=AuditType(row["type"]) if is_audit else EventType(row["type"]),
            at=row["at"],
            actor=Actor.from_row(row),
            subject=subject or None,
            version=row["version"],
            data=data if row["error"] is None else {**data, "error": row["error"]},
            position=Position(row["at"], UUID(int=2 * row["id"] + is_audit)),
        )


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """Some events, newest first; `next` continues after them, None at the end."""

    events: list[Activity]
    next: Position | None
