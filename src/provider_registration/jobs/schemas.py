"""Request parameters and response bodies of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from provider_registration.audit.models import ActorKind
from provider_registration.jobs.models import MAX_ITEMS, CancelReason, ItemState, Job, JobState
from provider_registration.web.openapi import EXAMPLE_ID
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT, Cursor, NextPage, Position

MAX_RESULTS = 500  # in one response
# The number of an item; `next_cursor` is a string, so this is documented as one.
ItemCursor = Annotated[int, Field(ge=0, le=MAX_ITEMS), WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,4}$"})]

EXAMPLE_JOB: dict[str, Any] = {
    "job_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "kind": "candidates.approve",
    "state": "done",
    "cancel_reason": None,
    "done": 2,
    "of": 2,
    "is_partial": False,
    "summary": {"approved": 1, "candidate-not-pending": 1},
    "created_by": {"kind": "user", "id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f", "name": "admin@example.com"},
    "created_at": "2026-03-14T10:00:00.123456Z",
    "ended_at": "2026-03-14T10:00:02.654321Z",
}
EXAMPLE_RESULTS: dict[str, Any] = {
    **EXAMPLE_JOB,
    "results": [
        {"candidate_id": str(EXAMPLE_ID), "status": "approved"},
        {
            "candidate_id": "b7a9d1c4-3e52-4f0b-8a6d-2c5e9f1b7d30",
            "status": "failed",
            "code": "candidate-not-pending",
        },
    ],
    "pagination": {"next_cursor": None},
}
EXAMPLE_QUEUED: dict[str, Any] = {**EXAMPLE_JOB, "state": "queued", "done": 0, "summary": {}, "ended_at": None}


class JobListQuery(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum jobs")
    cursor: Cursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


class JobQuery(BaseModel):
    """Which results of a job to show."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(MAX_RESULTS, ge=0, le=MAX_RESULTS, description="Maximum results; 0: only the progress")
    cursor: ItemCursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


class StaffActor(BaseModel):
    """Who posted a job, or sent a file."""

    model_config = ConfigDict(from_attributes=True)

    kind: ActorKind
    id: UUID
    name: str | None = Field(description="The e-mail address of a user, or the name of an API key")


class JobResponse(BaseModel):
    """A job and its progress."""

    job_id: UUID
    kind: str = Field(
        description="What is done to each item: `candidates.approve` or `candidates.reject`; or to each 250 rows of an "
        "import: `imports.check` or `imports.register`"
    )
    state: JobState = Field(description="In a cancelled job, items that had been started still get their results")
    cancel_reason: CancelReason | None = Field(
        description="asked: by `POST /jobs/{job_id}/cancel`; actor_not_allowed: the user who posted the job is "
        "disabled or no longer an admin, or the API key is revoked or has expired; null unless cancelled"
    )
    done: int = Field(description="Items with a result")
    of: int = Field(description="All items")
    is_partial: bool = Field(description="Whether the selection had more than `at_most`, which are not part of the job")
    summary: dict[str, int] = Field(description="How many items have each result, by `status` or, if failed, by `code`")
    created_by: StaffActor
    created_at: datetime = Field(description="UTC")
    ended_at: datetime | None = Field(description="UTC")

    @classmethod
    def of_job(cls, job: Job, **more: object) -> Self:
        """Show a job."""
        return cls.model_validate(
            {
                "job_id": job.job_id,
                "kind": job.kind,
                "state": job.state,
                "cancel_reason": job.cancel_reason,
                "done": job.done,
                "of": job.total,
                "is_partial": job.is_partial,
                "summary": job.summary,
                "created_by": StaffActor.model_validate(job.actor),
                "created_at": job.created_at,
                "ended_at": job.ended_at,
                **more,
            }
        )


class JobResult(BaseModel):
    """The result of one item."""

    candidate_id: UUID | None = Field(description="null in jobs of imports")
    status: str = Field(
        description="approved or rejected; for rows of an import, checked or imported; failed; before, queued or "
        "running; cancelled if it was not started"
    )
    code: str | SkipJsonSchema[None] = Field(
        None,
        description="Only if failed: the code of the problem document with which the request for this one candidate "
        "would have been refused",
    )

    @classmethod
    def of_item(cls, item: ItemState, job: Job) -> Self:
        """Show an item."""
        shown: dict[str, Any] = {"candidate_id": item.candidate_id, "status": status_of(item, job)}
        return cls(**shown | ({"code": item.code} if item.code else {}))


class JobResultsResponse(JobResponse):
    """A job, its progress and results, in the order of the request."""

    results: list[JobResult]
    pagination: NextPage

    @classmethod
    def of_items(cls, job: Job, items: Sequence[ItemState], after: int | None) -> Self:
        """Show a job with some results; `after`: the number after which the next ones begin."""
        cursor = str(after) if after is not None else None
        return cls.of_job(
            job,
            results=[JobResult.of_item(item, job) for item in items],
            pagination=NextPage(next_cursor=cursor),
        )


class JobListResponse(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobResponse]
    pagination: NextPage

    @classmethod
    def of_jobs(cls, jobs: Sequence[Job], after: Position | None) -> Self:
        """Show a page."""
        return cls(
            jobs=[JobResponse.of_job(job) for job in jobs],
            pagination=NextPage(next_cursor=after.to_cursor() if after else None),
        )


def status_of(item: ItemState, job: Job) -> str:
    """The status of an item as callers see it."""
    if item.status:
        return item.status
    if item.is_started:
        return "running"
    return "cancelled" if job.state is JobState.CANCELLED else "queued"
