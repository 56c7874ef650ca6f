"""The path of a job, with the gateway's prefix, and what links to it in the OpenAPI document take from a response."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request

JOBS = "/jobs"
THIS_JOB = {"job_id": "$response.body#/job_id"}


def job_url(request: Request, job_id: UUID) -> str:
    """The path of a job."""
    return f"{request.scope.get('root_path', '')}{JOBS}/{job_id}"
