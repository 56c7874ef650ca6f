"""The list of jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from provider_registration.console.dependencies import AuditingUserDep
from provider_registration.console.job_words import STATES, progress_of, title_of
from provider_registration.console.layout import JOBS, LayoutDep
from provider_registration.jobs.dependencies import JobServiceDep
from provider_registration.web.pagination import Cursor, Position

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 50


@router.get(JOBS)
async def list_jobs(
    _signed_in: AuditingUserDep,
    service: JobServiceDep,
    layout: LayoutDep,
    after: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """List jobs, newest first."""
    jobs, end = await service.page(limit=PAGE_SIZE, after=Position.from_cursor(after) if after else None)
    return layout.page(
        "jobs.html",
        jobs=jobs,
        after=after,
        next_page=end and end.to_cursor(),
        states=STATES,
        title_of=title_of,
        progress_of=progress_of,
    )
