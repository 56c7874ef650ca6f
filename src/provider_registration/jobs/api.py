"""The routes of jobs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from provider_registration.auth.dependencies import AdminDep, AuditorDep
from provider_registration.jobs.dependencies import JobId, JobServiceDep
from provider_registration.jobs.errors import JobDone, JobNotFound
from provider_registration.jobs.links import JOBS, THIS_JOB
from provider_registration.jobs.schemas import (
    EXAMPLE_JOB,
    EXAMPLE_RESULTS,
    JobListQuery,
    JobListResponse,
    JobQuery,
    JobResponse,
    JobResultsResponse,
)
from provider_registration.web.links import page_links
from provider_registration.web.openapi import EXAMPLE_ID, link_header, links, refuses, success
from provider_registration.web.pagination import Position
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route

router = APIRouter(tags=["jobs"], route_class=Route)

JOB = f"{JOBS}/{{job_id}}"
CANCELLED = {**EXAMPLE_JOB, "state": "cancelled", "cancel_reason": "asked", "of": 384}


@router.get(
    JOBS,
    summary="List jobs",
    responses=success(
        200,
        "Some jobs, newest first",
        {"jobs": [EXAMPLE_JOB], "pagination": {"next_cursor": None}},
        link_header(JOBS),
        links("get_job", "cancel_job", parameters={"job_id": "$response.body#/jobs/0/job_id"})
        | links("list_jobs", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"))
async def list_jobs(
    query: Annotated[JobListQuery, Query()],
    service: JobServiceDep,
    _user: AuditorDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> JobListResponse:
    """List jobs of all admins, with their progress."""
    after = Position.from_cursor(query.cursor) if query.cursor else None
    listed = JobListResponse.of_jobs(*await service.page(limit=query.limit, after=after))
    response.headers.update(page_links(request, JOBS, query, listed.pagination.next_cursor))
    return listed


@router.get(
    JOB,
    summary="Read a job",
    response_model_exclude_unset=True,
    responses=success(
        200,
        "The job and its results, in the order of the request",
        EXAMPLE_RESULTS,
        link_header(JOB.format(job_id=EXAMPLE_RESULTS["job_id"])),
        links("cancel_job", parameters=THIS_JOB)
        | links("get_job", parameters=THIS_JOB | {"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(
    JobNotFound(EXAMPLE_ID),
    InvalidRequest.at("query", "limit", "Input should be less than or equal to 500", code="too-large"),
)
async def get_job(
    job_id: JobId,
    query: Annotated[JobQuery, Query()],
    service: JobServiceDep,
    _user: AuditorDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> JobResultsResponse:
    """Read a job: its progress, and at most 500 results."""
    found = await results_of(service, job_id, query)
    response.headers.update(page_links(request, JOB.format(job_id=job_id), query, found.pagination.next_cursor))
    return found


@router.post(
    f"{JOB}/cancel",
    summary="Cancel a job",
    responses=success(200, "No further item is started", CANCELLED, links=links("get_job", parameters=THIS_JOB)),
)
@refuses(JobNotFound(EXAMPLE_ID), JobDone(EXAMPLE_ID))
async def cancel_job(job_id: JobId, service: JobServiceDep, user: AdminDep) -> JobResponse:
    """Stop a job before its next item. What was decided stays decided."""
    return JobResponse.of_job(await service.cancel(job_id, actor=user.actor))


async def results_of(service: JobServiceDep, job_id: UUID, query: JobQuery) -> JobResultsResponse:
    """A job with some of its results."""
    job = await service.get(job_id)
    items, after = await service.items(job_id, limit=query.limit, after=query.cursor) if query.limit else ([], None)
    return JobResultsResponse.of_items(job, items, after)
