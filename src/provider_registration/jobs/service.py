"""Creates, reads and cancels jobs; `runner` works on them."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.audit.models import Actor, AuditEvent, AuditType, Subject
from provider_registration.audit.service import record
from provider_registration.db.database import Database
from provider_registration.jobs import queries
from provider_registration.jobs.errors import JobDone, JobExists, JobNotFound, TooManyJobs
from provider_registration.jobs.models import CancelReason, ItemState, Job, JobState, NewJob
from provider_registration.observability.metrics import JOB_STALLED_SECONDS, JOBS_UNFINISHED
from provider_registration.web.pagination import NEWEST_END, Position

SUBJECT = "job"
MAX_UNFINISHED = 100  # jobs; about, because creations do not wait for each other
INSERTED_AT_ONCE = 1000  # items
PRUNED_AT_ONCE = 10  # jobs, with all their items
LOOK_SECONDS = (0.05, 0.1, 0.2, 0.4)  # between two looks at a job that is waited for; the last one repeats


class JobService:
    """The jobs. `wake` is set when this process creates one, so that its runner starts at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.wake = asyncio.Event()

    async def create_in(self, session: AsyncSession, new: NewJob) -> None:
        """Create a job in the caller's transaction, and record who did; set `wake` after the commit.

        Raises:
            JobExists: there is one with this ID.
            TooManyJobs: too many are unfinished.
        """
        parameters = {
            "job_id": new.job_id,
            "kind": new.kind,
            "actor_kind": str(new.actor.kind),
            "actor_id": new.actor.id,
            "parameters": json.dumps(new.parameters),
            "is_partial": new.is_partial,
            "total": len(new.items),
            "limit": MAX_UNFINISHED,
        }
        if await session.scalar(queries.INSERT_JOB, parameters) is None:
            if await session.scalar(queries.HAS_JOB, {"job_id": new.job_id}):
                raise JobExists
            raise TooManyJobs(MAX_UNFINISHED)
        for first in range(0, len(new.items), INSERTED_AT_ONCE):
            some = new.items[first : first + INSERTED_AT_ONCE]
            items = {
                "job_id": new.job_id,
                "first": first,
                "candidate_ids": [item.candidate_id for item in some],
                "versions": [item.version for item in some],
            }
            await session.execute(queries.INSERT_ITEMS, items)
        about = {"kind": new.kind, "items": len(new.items), **new.about}
        await record(session, AuditEvent(AuditType.JOB_CREATED, new.actor, Subject(SUBJECT, new.job_id), about))

    async def get(self, job_id: UUID) -> Job:
        """One job.

        Raises:
            JobNotFound: there is none.
        """
        async with self._database.statement() as session:
            row = (await session.execute(queries.FIND_JOB, {"job_id": job_id})).mappings().one_or_none()
        if row is None:
            raise JobNotFound(job_id)
        return Job.from_row(row)

    async def items(self, job_id: UUID, *, limit: int, after: int | None = None) -> tuple[list[ItemState], int | None]:
        """At most `limit` items in the order of the request, and the number after which the next page begins."""
        parameters = {"job_id": job_id, "limit": limit + 1, "after": -1 if after is None else after}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_ITEMS, parameters)).mappings().all()
        items = [ItemState(**row) for row in rows[:limit]]
        return items, items[-1].number if len(rows) > limit else None

    async def page(self, *, limit: int, after: Position | None = None) -> tuple[list[Job], Position | None]:
        """At most `limit` jobs, newest first, and the position after which the next page begins, if there is one."""
        start = after or NEWEST_END
        parameters = {"limit": limit + 1, "after": start.at, "after_id": start.id}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_JOBS, parameters)).mappings().all()
        jobs = [Job.from_row(row) for row in rows[:limit]]
        return jobs, Position(jobs[-1].created_at, jobs[-1].job_id) if len(rows) > limit else None

    async def cancel(self, job_id: UUID, *, actor: Actor) -> Job:
        """Stop a job before its next item; a cancelled one stays as it is.

        Raises:
            JobNotFound: there is none.
            JobDone: it is done.
        """
        parameters = {"job_id": job_id, "reason": str(CancelReason.ASKED)}
        async with self._database.transaction() as session:
            if kind := await session.scalar(queries.CANCEL_JOB, parameters):
                about = {"kind": kind}
                await record(session, AuditEvent(AuditType.JOB_CANCELLED, actor, Subject(SUBJECT, job_id), about))
        job = await self.get(job_id)
        if job.state is JobState.DONE:
            raise JobDone(job_id)
        return job

    async def wait(self, job_id: UUID, seconds: float, stopping: asyncio.Event) -> Job:
        """The job when it has ended, or after `seconds`, or when `stopping` is set. It holds no connection meanwhile.

        Raises:
            JobNotFound: there is none.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        pauses = iter(LOOK_SECONDS)
        while True:
            job = await self.get(job_id)
            left = ends - loop.time()
            if job.state.has_ended or left <= 0 or stopping.is_set():
                return job
            await asyncio.sleep(min(next(pauses, LOOK_SECONDS[-1]), left))

    async def observe(self) -> None:
        """Update the metrics that come from the database."""
        async with self._database.statement() as session:
            row = (await session.execute(queries.SUMMARISE)).mappings().one()
        for state in (JobState.QUEUED, JobState.RUNNING):
            JOBS_UNFINISHED.labels(state).set(row[state])
        JOB_STALLED_SECONDS.set(row["stalled_seconds"])

    async def prune(self, days: int) -> bool:
        """Delete some jobs that ended more than `days` ago; return whether there are more."""
        async with self._database.statement() as session:
            result = await session.execute(queries.PRUNE_JOBS, {"days": days, "limit": PRUNED_AT_ONCE})
        return int(result.rowcount) == PRUNED_AT_ONCE  # type: ignore[attr-defined]  # of a DELETE
