"""Dependencies of the endpoints of jobs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.jobs.service import JobService
from provider_registration.web.services import provide

JobServiceDep = Annotated[JobService, Depends(provide(JobService, DatabaseUnavailable()))]
JobId = Annotated[UUID, Path(description="The job's ID")]
