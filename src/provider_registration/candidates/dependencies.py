"""What the routes of candidates are given."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from provider_registration.candidates.schemas import CandidateRegistration, RejectionRequest
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.body import json_body
from provider_registration.web.openapi import refuses
from provider_registration.web.rate_limits import RateLimits, TooManyRequests


@refuses(DatabaseUnavailable())
async def get_candidate_service(request: Request) -> CandidateService:
    """The service that the lifespan made."""
    service: CandidateService = request.app.state.candidate_service
    return service


@refuses(TooManyRequests(1800))
async def get_rate_limits(request: Request) -> RateLimits:
    """The rate limits that the application was made with."""
    limits: RateLimits = request.app.state.rate_limits
    return limits


RateLimitsDep = Annotated[RateLimits, Depends(get_rate_limits)]
CandidateServiceDep = Annotated[CandidateService, Depends(get_candidate_service)]
CandidateId = Annotated[UUID, Path(description="The candidate's id, as registration gave it")]
RegistrationBody = Annotated[CandidateRegistration, Depends(json_body(CandidateRegistration))]
RejectionBody = Annotated[RejectionRequest, Depends(json_body(RejectionRequest, optional=True))]
