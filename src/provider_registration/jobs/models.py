"""Models of jobs and their items."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.audit.models import Actor, ActorKind

MAX_ITEMS = 5000  # of one job
FAILED = "failed"  # status of an item whose result is an error


class JobState(StrEnum):
    """The state of a job. Of a cancelled one, the items that were being worked on still get their results."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether no further item is started."""
        return self in (JobState.DONE, JobState.CANCELLED)


class CancelReason(StrEnum):
    """Why a job was cancelled: an admin did it, or the user or API key that posted it may no longer do this."""

    ASKED = "asked"
    ACTOR_NOT_ALLOWED = "actor_not_allowed"


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item of a new job. `version`: only a candidate at this version is decided; None: any."""

    candidate_id: UUID | None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to create. `parameters` may have personal data: they are deleted when it ends.

    `about` has no personal data and is recorded in the audit log. `is_partial`: more items matched than it has.
    """

    job_id: UUID
    kind: str
    actor: Actor
    items: Sequence[NewItem]
    parameters: dict[str, Any] = field(default_factory=dict)
    about: dict[str, object] = field(default_factory=dict)
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job as staff see it. `summary`: how many items have each result, by status or, of failed ones, by code.

    `worked_at`: when an item was last started, or the job was created.
    """

    job_id: UUID
    kind: str
    state: JobState
    cancel_reason: CancelReason | None
    actor: Actor
    is_partial: bool
    total: int
    done: int
    summary: dict[str, int]
    created_at: datetime
    worked_at: datetime
    ended_at: datetime | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a job from a row of a statement that selects jobs."""
        return cls(
            job_id=row["id"],
            kind=row["kind"],
            state=JobState(row["state"]),
            cancel_reason=CancelReason(row["cancel_reason"]) if row["cancel_reason"] else None,
            actor=Actor.from_row(row),
            is_partial=row["is_partial"],
            total=row["total"],
            done=row["done"],
            summary=dict(sorted(json.loads(row["summary"]).items())),
            created_at=row["created_at"],
            worked_at=row["worked_at"],
            ended_at=row["ended_at"],
        )


@dataclass(frozen=True, slots=True)
class ItemState:
    """An item as staff see it. `status`: None until it is done; `code` only if that is FAILED."""

    number: int
    candidate_id: UUID | None
    candidate_name: str | None
    status: str | None
    code: str | None
    is_started: bool


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this process works on until its lease ends."""

    job_id: UUID
    kind: str
    claim_id: UUID
    actor: Actor
    parameters: dict[str, Any]

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a claim from a row of CLAIM_JOB."""
        return cls(
            job_id=row["id"],
            kind=row["kind"],
            claim_id=row["claim_id"],
            actor=Actor(ActorKind(row["actor_kind"]), row["actor_id"]),
            parameters=json.loads(row["parameters"]),
        )


@dataclass(frozen=True, slots=True)
class Item:
    """An item to work on. `attempts` includes this one; an earlier one may have done the work without its result."""

    number: int
    candidate_id: UUID | None
    version: int | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an item: what was done, or FAILED with the code of the error."""

    status: str
    code: str | None = None

    @classmethod
    def failed(cls, code: str) -> Self:
        """The result of an item that was refused."""
        return cls(FAILED, code)


# Works on one item and returns its result. It may be called again for an item that it has done before: then it returns
# the same result. It raises TryLater or an UnavailableError if the item cannot be done now; the code of another
# ServiceError is the result.
WorkOnItem = Callable[[ClaimedJob, Item], Awaitable[Result]]

# The results, by number, of those of some items that were never started and need no work, such as refusals. They must
# still be right later: they are recorded when it is the items' turn.
Known = Callable[[ClaimedJob, Sequence[Item]], Awaitable[dict[int, Result]]]
