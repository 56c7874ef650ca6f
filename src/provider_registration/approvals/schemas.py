"""Request and response bodies of the approval endpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from provider_registration.approvals.models import ApprovalEvent, ApprovalPage, RecordPage
from provider_registration.billing.port import MAX_PROVIDER_ID
from provider_registration.candidates.models import ApprovalState, Status
from provider_registration.candidates.schemas import EXAMPLE_SUMMARY, ApprovalSummaryResponse
from provider_registration.events.schemas import EXAMPLE_ACTOR, ActorResponse
from provider_registration.web.openapi import EXAMPLE_ID
from provider_registration.web.pagination import (
    MAX_LIMIT,
    IdCursor,
    NextPage,
    Page,
    Pagination,
    Position,
    PositionQuery,
)

EXAMPLE_APPROVAL: dict[str, Any] = {
    "candidate_id": "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11",
    "idempotency_key": "6f1c1c5e-0f5c-5d5e-8f0b-3c2a1d0e9f87",
    "provider_name": "Huerta del Sol S.L.",
    "requested_by": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f",
    "actor": EXAMPLE_ACTOR,
    **EXAMPLE_SUMMARY,
}
EXAMPLE_EVENT: dict[str, Any] = {
    "event": "requested",
    "at": "2026-03-14T10:00:00.123456Z",
    "user_id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f",
    "actor": EXAMPLE_ACTOR,
    "provider_id": None,
    "detail": None,
}


class ApprovalDetailResponse(ApprovalSummaryResponse):
    """An unfinished approval."""

    candidate_id: UUID
    idempotency_key: UUID = Field(description="Sent to billing as Idempotency-Key; also in the logs")
    provider_name: str = Field(description="The provider name sent to billing")
    requested_by: UUID = Field(description="The ID of the user or API key that requested the approval")
    actor: ActorResponse = Field(description="Who requested the approval")


class ApprovalResponse(BaseModel):
    """An approved candidate."""

    model_config = ConfigDict(from_attributes=True)

    candidate_id: UUID = Field(examples=[EXAMPLE_ID])
    status: Literal[Status.APPROVED]
    provider_id: int = Field(description="Provider ID in billing", examples=[4711])


class ApprovalListQuery(PositionQuery):
    """Which unfinished approvals to list."""

    state: ApprovalState | None = Field(None, description="Only approvals in this state")


class ApprovalListResponse(BaseModel):
    """One page of unfinished approvals, oldest first."""

    approvals: list[ApprovalDetailResponse]
    pagination: Pagination

    @classmethod
    def of(cls, found: ApprovalPage, page: Page[Position]) -> Self:
        """Show what was found for `page`."""
        approvals = [ApprovalDetailResponse.model_validate(approval) for approval in found.approvals]
        next_cursor = found.next.to_cursor() if found.next else None
        return cls(approvals=approvals, pagination=Pagination.of(page, found.total, next_cursor))


class ApprovalEventResponse(BaseModel):
    """One event of an approval."""

    model_config = ConfigDict(from_attributes=True)

    event: ApprovalEvent
    at: datetime = Field(description="UTC")
    user_id: UUID | None = Field(description="The user who caused it; null if it was an API key or the service")
    actor: ActorResponse = Field(
        description="Who caused it, as in the candidate's events; of `approved` who requested it last"
    )
    provider_id: int | None = Field(description="Provider ID in billing, if the event has one")
    detail: str | None = Field(description="Why the approval failed or is in doubt")


class ApprovalHistoryQuery(BaseModel):
    """Which events of an approval to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(MAX_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum events")
    cursor: IdCursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


class ApprovalHistoryResponse(BaseModel):
    """Some events of a candidate's approval, newest first."""

    events: list[ApprovalEventResponse]
    pagination: NextPage

    @classmethod
    def of(cls, page: RecordPage) -> Self:
        """Show a page."""
        return cls(
            events=[ApprovalEventResponse.model_validate(record) for record in page.records],
            pagination=NextPage(next_cursor=str(page.next) if page.next is not None else None),
        )


class ResolutionRequest(BaseModel):
    """The resolution of an approval in doubt.

    `link`: the provider `provider_id` in billing belongs to the candidate. `let_go`: billing has no provider for the
    candidate, so the approval is cancelled and the candidate can be approved again or rejected.
    """

    model_config = ConfigDict(extra="forbid")

    resolution: Literal["link", "let_go"]
    provider_id: Annotated[int, Field(ge=1, le=MAX_PROVIDER_ID, strict=True)] | None = Field(
        None, validate_default=True, description="Provider ID in billing; only with link"
    )

    @field_validator("provider_id")
    @classmethod
    def _goes_with_link(cls, value: int | None, info: ValidationInfo) -> int | None:
        resolution = info.data.get("resolution")
        if resolution == "link" and value is None:
            raise PydanticCustomError("missing_with_link", "Field required with link")
        if resolution == "let_go" and value is not None:
            raise PydanticCustomError("not_with_let_go", "Field not allowed with let_go")
        return value
