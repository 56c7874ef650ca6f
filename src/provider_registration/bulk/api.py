"""The route that decides many candidates."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from provider_registration.auth.dependencies import AdminDep
from provider_registration.bulk.dependencies import BulkServiceDep, DecisionsBody
from provider_registration.bulk.schemas import DecisionsRequest
from provider_registration.candidates.links import CANDIDATES
from provider_registration.idempotency.dependencies import (
    REPLAYED_HEADER,
    RequiredIdempotencyKey,
    key_of_staff,
    replayed_header,
)
from provider_registration.idempotency.models import fingerprint_of
from provider_registration.jobs.dependencies import JobServiceDep
from provider_registration.jobs.errors import TooManyJobs
from provider_registration.jobs.links import THIS_JOB, job_url
from provider_registration.jobs.schemas import (
    EXAMPLE_QUEUED,
    EXAMPLE_RESULTS,
    MAX_RESULTS,
    JobResponse,
    JobResultsResponse,
)
from provider_registration.jobs.service import MAX_UNFINISHED
from provider_registration.web.openapi import header, links, refuses, request_body, success
from provider_registration.web.preferences import MAX_WAIT, PreferredWait
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, json_response
from provider_registration.web.server import STOPPING

router = APIRouter(tags=["jobs"], route_class=Route)

LOCATION = header("Location", "The path of the job")
APPLIED = "Preference-Applied"
APPLIED_HEADER = {
    APPLIED: header(APPLIED, "The preference that was followed (RFC 7240)", f"wait={MAX_WAIT}")[APPLIED]
    | {"required": False}
}
NEXT = links("get_job", "cancel_job", parameters=THIS_JOB)
HEADERS = LOCATION | APPLIED_HEADER | REPLAYED_HEADER
ENDED = success(200, "The job has ended", EXAMPLE_RESULTS, HEADERS, NEXT)
CREATED = success(202, "The job was created, and continues if you disconnect", EXAMPLE_QUEUED, HEADERS, NEXT)
TWO = [{"candidate_id": each["candidate_id"], "version": 1} for each in EXAMPLE_RESULTS["results"]]


@router.post(
    f"{CANDIDATES}/decisions",
    summary="Decide many candidates",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobResponse,
    responses={200: {"model": JobResultsResponse, **ENDED[200]}, **CREATED},
    openapi_extra=request_body(
        (
            "application/json",
            DecisionsRequest,
            {
                "Approve some": {"decision": "approve", "items": TWO},
                "Reject some": {"decision": "reject", "reason": "No cold chain", "items": TWO},
                "Reject all that match": {
                    "decision": "reject",
                    "notify": False,
                    "selection": {"status": "pending", "product": "grapes"},
                    "at_most": 384,
                },
            },
        )
    ),
)
@refuses(TooManyJobs(MAX_UNFINISHED), InvalidRequest.at("body", None, "A candidate is listed more than once"))
async def decide_candidates(
    request: Request,
    user: AdminDep,  # before the body, as for one candidate
    decisions: DecisionsBody,
    sent: RequiredIdempotencyKey,
    wait: PreferredWait,
    service: BulkServiceDep,
    jobs: JobServiceDep,
) -> Response:
    """Approve or reject up to 500 candidates, or those that match filters, in the background.

    Each is decided as if it had been requested alone, and has its own result. With `Prefer: wait=10`, the response is
    the finished job if that takes no longer.
    """
    key = key_of_staff(sent, request, user, fingerprint=fingerprint_of(decisions))
    job_id = await service.start(decisions.to_bulk_decision(uuid4()), actor=user.actor, key=key)
    stopping: asyncio.Event = request.scope["state"][STOPPING]
    job = await jobs.wait(job_id, wait or 0, stopping)
    headers = {"Location": job_url(request, job_id)} | replayed_header(key.is_replay)
    if wait is not None:
        headers[APPLIED] = f"wait={wait}"
    if wait is None or not job.state.has_ended:
        return json_response(JobResponse.of_job(job).model_dump_json(), HTTPStatus.ACCEPTED, headers)
    items, after = await jobs.items(job_id, limit=MAX_RESULTS)
    content = JobResultsResponse.of_items(job, items, after).model_dump_json(exclude_unset=True)
    return json_response(content, headers=headers)
