"""What the approval endpoints take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from provider_registration.candidates.approval.models import ApprovalEvent, ApprovalState
from provider_registration.web.pagination import PageQuery, Pagination

MAX_INTEGER = 2**31 - 1  # PostgreSQL's integer

EXAMPLE_STANDING: dict[str, Any] = {
    "state": "waiting",
    "requested_at": "2026-03-14T10:00:00.123456Z",
    "attempts": 2,
    "next_attempt_at": "2026-03-14T10:00:31.654321Z",
    "last_error": "billing gave no answer (ReadTimeout)",
}
EXAMPLE_APPROVAL: dict[str, Any] = {
    "candidate_id": "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11",
    "idempotency_key": "6f1c1c5e-0f5c-5d5e-8f0b-3c2a1d0e9f87",
    "provider_name": "Huerta del Sol S.L.",
    "requested_by": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f",
    **EXAMPLE_STANDING,
}
EXAMPLE_EVENT: dict[str, Any] = {
    "event": "requested",
    "at": "2026-03-14T10:00:00.123456Z",
    "user_id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f",
    "provider_id": None,
    "detail": None,
}


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


class ApprovalDetailResponse(ApprovalStandingResponse):
    """An unfinished approval."""

    candidate_id: UUID
    idempotency_key: UUID = Field(description="Sent to billing as Idempotency-Key; the logs have it too")
    provider_name: str = Field(description="The name billing was asked for")
    requested_by: UUID = Field(description="The user who asked for the approval")


class ApprovalListQuery(PageQuery):
    """Which unfinished approvals to list."""

    state: ApprovalState | None = Field(None, description="Only approvals in this state")


class ApprovalListResponse(BaseModel):
    """One page of unfinished approvals, oldest first."""

    approvals: list[ApprovalDetailResponse]
    pagination: Pagination


class ApprovalEventResponse(BaseModel):
    """One thing that happened to an approval."""

    model_config = ConfigDict(from_attributes=True)

    event: ApprovalEvent
    at: datetime = Field(description="UTC")
    user_id: UUID | None = Field(description="Who did it; null when the service did it by itself")
    provider_id: int | None = Field(description="The provider it was about")
    detail: str | None = Field(description="Why")


class ApprovalHistoryResponse(BaseModel):
    """What happened to a candidate's approval, newest first, 100 events at most."""

    events: list[ApprovalEventResponse]


class ResolutionRequest(BaseModel):
    """How an approval in doubt ends.

    `link`: the provider `provider_id` in billing is the candidate's. `let_go`: billing has none of the candidate's,
    so the approval ends and the candidate can be decided anew.
    """

    model_config = ConfigDict(extra="forbid")

    resolution: Literal["link", "let_go"]
    provider_id: Annotated[int, Field(ge=1, le=MAX_INTEGER, strict=True)] | None = Field(
        None, validate_default=True, description="The provider's id in billing; with link alone"
    )

    @field_validator("provider_id")
    @classmethod
    def _goes_with_link(cls, value: int | None, info: ValidationInfo) -> int | None:
        resolution = info.data.get("resolution")
        if resolution == "link" and value is None:
            raise PydanticCustomError("missing_with_link", "Field required with link")
        if resolution == "let_go" and value is not None:
            raise PydanticCustomError("not_with_let_go", "There is no provider with let_go")
        return value
