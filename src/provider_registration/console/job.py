"""The page of a job: its progress and results, until it is done and later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.audit.models import AuditEvent, AuditType
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import AuditingUserDep, DecidingUserDep
from provider_registration.console.job_words import CANCEL_REASONS, STATES, progress_of, result_of, title_of
from provider_registration.console.layout import JOB, JOBS, LayoutDep
from provider_registration.jobs.dependencies import JobServiceDep
from provider_registration.jobs.errors import JobDone
from provider_registration.jobs.models import MAX_ITEMS, Job
from provider_registration.jobs.schemas import MAX_RESULTS, status_of
from provider_registration.jobs.service import JobService
from provider_registration.web.csv_files import BYTE_ORDER_MARK, csv_lines
from provider_registration.web.head_requests import HeadersOnly, no_parts

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 100  # results
COLUMNS = ("candidate_id", "company_name", "status", "code", "result")


@router.get(JOB)
async def show_job(
    job_id: UUID,
    _signed_in: AuditingUserDep,
    service: JobServiceDep,
    layout: LayoutDep,
    after: Annotated[int | None, Query(ge=0, le=MAX_ITEMS)] = None,
) -> Response:
    """Show the progress and some results."""
    job = await service.get(job_id)
    items, end = await service.items(job_id, limit=PAGE_SIZE, after=after)
    return layout.page(
        "job.html",
        job=job,
        title=title_of(job),
        results=[(item, status_of(item, job), item.code or status_of(item, job)) for item in items],
        after=after,
        next_page=end,
        states=STATES,
        cancel_reasons=CANCEL_REASONS,
        progress_of=progress_of,
        result_of=result_of,
    )


@router.post(f"{JOB}/cancel")
async def cancel(job_id: UUID, signed_in: DecidingUserDep, service: JobServiceDep, layout: LayoutDep) -> Response:
    """Stop it before the next item."""
    try:
        await service.cancel(job_id, actor=signed_in.user.actor)
    except JobDone:
        return layout.redirect(f"{JOBS}/{job_id}", Outcome("info", "It was already done."))
    return layout.redirect(f"{JOBS}/{job_id}")


@router.get(f"{JOB}/results.csv")
async def export_results(
    job_id: UUID, signed_in: AuditingUserDep, service: JobServiceDep, log: AuditLogDep, headers_only: HeadersOnly
) -> Response:
    """All results as a file. The export is recorded first; HEAD is no export."""
    job = await service.get(job_id)
    headers = {"Content-Disposition": f'attachment; filename="job-{job.created_at:%Y-%m-%d}.csv"'}
    if headers_only:
        return StreamingResponse(no_parts(), headers=headers, media_type="text/csv")
    data: dict[str, object] = {"format": "csv", "job_id": str(job_id)}
    await log.record(AuditEvent(AuditType.CANDIDATES_EXPORTED, signed_in.user.actor, data=data))
    return StreamingResponse(_as_csv(job, service), headers=headers, media_type="text/csv")


async def _as_csv(job: Job, service: JobService) -> AsyncIterator[str]:
    yield BYTE_ORDER_MARK + csv_lines([COLUMNS])
    after: int | None = None
    while True:
        items, after = await service.items(job.job_id, limit=MAX_RESULTS, after=after)
        rows = ((item.candidate_id, item.candidate_name, status_of(item, job), item.code) for item in items)
        yield csv_lines((*row, result_of(row[3] or row[2])) for row in rows)
        if after is None:
            return
