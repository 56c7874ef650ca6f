"""Dependencies of the candidate routes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from provider_registration.candidates.schemas import CandidateRegistration, RejectionRequest
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.body import json_body
from provider_registration.web.rate_limits import RateLimits, TooManyRequests
from provider_registration.web.services import provide

RateLimitsDep = Annotated[RateLimits, Depends(provide(RateLimits, TooManyRequests(1800)))]
CandidateServiceDep = Annotated[CandidateService, Depends(provide(CandidateService, DatabaseUnavailable()))]
CandidateId = Annotated[UUID, Path(description="The candidate's ID, returned by registration")]
RegistrationBody = Annotated[CandidateRegistration, Depends(json_body(CandidateRegistration))]
RejectionBody = Annotated[RejectionRequest, Depends(json_body(RejectionRequest, optional=True))]
