"""Dependencies of the candidate routes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from provider_registration.auth.models import Caller
from provider_registration.candidates.schemas import CandidateRegistration, DecisionRequest, RejectionRequest
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.idempotency.dependencies import key_of_staff
from provider_registration.idempotency.models import Key, fingerprint_of
from provider_registration.web.body import json_body
from provider_registration.web.rate_limits import RateLimits, TooManyRequests
from provider_registration.web.services import provide


def key_of_decision(
    sent: str | None, request: Request, caller: Caller, decision: DecisionRequest, expected: frozenset[int] | None
) -> Key | None:
    """The idempotency key of a decision, if the request has one.

    If-Match belongs to the content: after a 412, the key must not answer a decision about a newer version.
    """
    if sent is None:
        return None
    versions = None if expected is None else sorted(expected)
    return key_of_staff(sent, request, caller, fingerprint=fingerprint_of(decision, versions))


RateLimitsDep = Annotated[RateLimits, Depends(provide(RateLimits, TooManyRequests(1800)))]
CandidateServiceDep = Annotated[CandidateService, Depends(provide(CandidateService, DatabaseUnavailable()))]
CandidateId = Annotated[UUID, Path(description="The candidate's ID, returned by registration")]
RegistrationBody = Annotated[CandidateRegistration, Depends(json_body(CandidateRegistration))]
RejectionBody = Annotated[RejectionRequest, Depends(json_body(RejectionRequest, optional=True))]
