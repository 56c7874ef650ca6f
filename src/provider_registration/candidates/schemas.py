"""What the candidate endpoints take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from provider_registration.candidates.company import BlankIsAbsent, Company, Product
from provider_registration.candidates.models import ApprovalState, Status
from provider_registration.web.openapi import EXAMPLE_ID
from provider_registration.web.pagination import CursorPagination, CursorQuery
from provider_registration.web.text import Text

Reason = Annotated[str, Text(1000)]

EXAMPLE_REGISTRATION: dict[str, Any] = {
    "company_name": "Huerta del Sol S.L.",
    "contact_email": "ventas@huertadelsol.example",
    "phone": "+34 963 555 017",
    "products": ["oranges", "grapes"],
    "truck_count": 12,
    "capacity_tons_per_day": 80,
    "location": "Valencia, Spain",
}
EXAMPLE_CANDIDATE: dict[str, Any] = {
    "candidate_id": str(EXAMPLE_ID),
    "status": "pending",
    **EXAMPLE_REGISTRATION,
    "created_at": "2026-03-14T09:26:53.589793Z",
    "updated_at": "2026-03-14T09:26:53.589793Z",
    "provider_id": None,
    "version": 1,
    "rejection_reason": None,
    "approval": None,
}
EXAMPLE_STANDING: dict[str, Any] = {
    "state": "waiting",
    "requested_at": "2026-03-14T10:00:00.123456Z",
    "attempts": 2,
    "next_attempt_at": "2026-03-14T10:00:31.654321Z",
    "last_error": "billing did not respond (ReadTimeout)",
}
EXAMPLE_STATUS_URL = "/applications/pJ3nV8sK1xQ6wZ0rT5yL9uC2bM7dF4gH8aE1oI6kN3s"
EXAMPLE_APPROVED: dict[str, Any] = {"candidate_id": str(EXAMPLE_ID), "status": "approved", "provider_id": 4711}


class CandidateRegistration(Company):
    """What a company says of itself when it registers."""

    model_config = ConfigDict(extra="forbid")

    language: Annotated[str, Field(max_length=35, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")] | None = Field(
        None, description="What the company reads, an RFC 5646 tag: its status page is in it, if there is a translation"
    )


class RejectionRequest(BaseModel):
    """Why a candidate is rejected."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[Reason | None, BlankIsAbsent] = None


class CandidateListQuery(CursorQuery):
    """Which candidates to list."""

    status: Status | None = Field(None, description="Only candidates with this status")
    product: Product | None = Field(None, description="Only candidates that deliver this product")


class ApprovalStandingResponse(BaseModel):
    """Where an unfinished approval stands."""

    model_config = ConfigDict(from_attributes=True)

    state: ApprovalState = Field(
        description="in_progress: a worker is at it; waiting: tried again at next_attempt_at; in_doubt: resolve it"
    )
    requested_at: datetime = Field(description="When the approval was asked for, UTC")
    attempts: int = Field(description="Times billing was asked, or was about to be")
    next_attempt_at: datetime | None = Field(description="When a waiting approval is tried next, UTC")
    last_error: str | None = Field(description="How the last attempt ended")


class CandidateResponse(BaseModel):
    """The whole record of a candidate."""

    model_config = ConfigDict(from_attributes=True)

    candidate_id: UUID
    status: Status
    company_name: str
    contact_email: str
    phone: str | None
    products: list[Product]
    truck_count: int
    capacity_tons_per_day: int
    location: str | None
    created_at: datetime = Field(description="UTC")
    updated_at: datetime = Field(description="UTC")
    provider_id: int | None = Field(description="The provider's id in billing; null unless approved")
    version: int = Field(description="1 at registration, 2 after the decision; the ETag is made of it")
    rejection_reason: str | None
    approval: ApprovalStandingResponse | None = Field(description="Where an unfinished approval stands")


STATUS_PAGE_URL = Field(None, description="The same with its host, only where the service knows that (`PUBLIC_URL`)")


class RegistrationResponse(CandidateResponse):
    """The whole record of a candidate that was just registered."""

    status_url: str | SkipJsonSchema[None] = Field(
        None, description="Where the company sees how its application stands; only where there are public pages"
    )
    status_page_url: str | SkipJsonSchema[None] = STATUS_PAGE_URL


class StatusLinkResponse(BaseModel):
    """The link to a candidate's status page."""

    status_url: str = Field(description="Where the company sees how its application stands")
    status_page_url: str | SkipJsonSchema[None] = STATUS_PAGE_URL


class CandidateListResponse(BaseModel):
    """One page of candidates, newest first."""

    candidates: list[CandidateResponse]
    pagination: CursorPagination


class RejectionResponse(BaseModel):
    """A candidate was rejected."""

    model_config = ConfigDict(from_attributes=True)

    candidate_id: UUID = Field(examples=[EXAMPLE_ID])
    status: Literal[Status.REJECTED]
    rejection_reason: str | None = Field(examples=["No cold chain"])
