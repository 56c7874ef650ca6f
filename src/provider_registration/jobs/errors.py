"""Errors of jobs."""

from __future__ import annotations

from uuid import UUID

from provider_registration.errors import InvalidStateError, LimitExceededError, NotFoundError


class JobNotFound(NotFoundError):
    """There is no job with this ID."""

    code = "job-not-found"
    title = "Job not found"

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id

    def __str__(self) -> str:
        return f"Job {self.job_id} not found."


class JobDone(InvalidStateError):
    """The job is done; nothing is left to be cancelled."""

    code = "job-done"
    title = "Job done"

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id

    def __str__(self) -> str:
        return f"Job {self.job_id} is done; its results stay."


class JobExists(Exception):
    """There is a job with this ID already; for those who create one twice on purpose."""


class TooManyJobs(LimitExceededError):
    """So many jobs are unfinished that no more are accepted."""

    code = "too-many-jobs"
    title = "Too many jobs"
    retry_after = 60

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.limit} jobs are unfinished. Wait until some are done, or cancel some."


class TryLater(Exception):
    """An item could not be worked on now, and nothing about it is decided.

    `code` becomes its result if it still cannot be after `attempts`, or after as many as there are waits.
    `retry_after`: at least so many seconds before the next attempt.
    """

    def __init__(self, code: str, *, retry_after: float = 0.0, attempts: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after = retry_after
        self.attempts = attempts
