"""Request and response bodies of webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from provider_registration.deliveries.models import State
from provider_registration.deliveries.schemas import EXAMPLE_DELIVERIES
from provider_registration.events.models import EventType
from provider_registration.web.instants import Instant
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT, IdCursor
from provider_registration.web.text import Text
from provider_registration.webhooks.models import DisabledReason, NewSecret
from provider_registration.webhooks.urls import MAX_URL_LENGTH

MAX_DESCRIPTION_LENGTH = 200
URL = "URL at a public host or in WEBHOOKS_ALLOWED_NETWORKS; https://, or http:// with WEBHOOKS_ALLOW_HTTP"

EXAMPLE_WEBHOOK: dict[str, Any] = {
    "webhook_id": "9a1f5c52-0b8f-4c43-9f0e-6a1f5f2d7c33",
    "url": "https://erp.example/hooks/suppliers",
    "types": ["candidate.approved", "candidate.rejected"],
    "description": "ERP",
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "previous_secret_expires_at": None,
    "replay_since": None,
    "created_at": "2026-03-14T09:26:53.589793Z",
    "updated_at": "2026-03-14T09:26:53.589793Z",
}
EXAMPLE_DELIVERY: dict[str, Any] = {
    **EXAMPLE_DELIVERIES["deliveries"][0],
    "kind": "webhook",
    "target": EXAMPLE_WEBHOOK["webhook_id"],
    "last_status": 503,
    "last_error": "status 503: maintenance",
}
EXAMPLE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 - an example
EXAMPLE_RESULT: dict[str, Any] = {
    "delivered": True,
    "status": 204,
    "response": "",
    "error": None,
    "duration_ms": 87,
}


def _without_repetitions(types: list[EventType]) -> list[EventType]:
    return list(dict.fromkeys(types))


Types = Annotated[list[EventType], Field(max_length=len(EventType)), AfterValidator(_without_repetitions)]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH)]
Description = Annotated[str, Text(MAX_DESCRIPTION_LENGTH)]


class WebhookRequest(BaseModel):
    """A new webhook."""

    model_config = ConfigDict(extra="forbid")

    url: Url = Field(description=URL)
    types: Types = Field([], description="Only events of these types; empty: all")
    description: Description = Field("", description="For staff: what it is for")


class WebhookChangeRequest(BaseModel):
    """Changes of a webhook; omitted fields stay as they are."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = Field(None, description=URL)
    types: Types | None = Field(None, description="Only events of these types; empty: all")
    description: Description | None = Field(None, description="For staff: what it is for")
    enabled: bool | None = Field(None, description="false: nothing is sent, and no new events are queued")


class ReplayRequest(BaseModel):
    """Which events to send once more."""

    model_config = ConfigDict(extra="forbid")

    since: Instant = Field(
        description="All events of the webhook's types since then, with a UTC offset, such as 2026-03-14T00:00:00Z"
    )


class WebhookDeliveryQuery(BaseModel):
    """Which deliveries of a webhook to list."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = Field(None, description="Only in this state")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum deliveries")
    cursor: IdCursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


class WebhookResponse(BaseModel):
    """A webhook, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    webhook_id: UUID
    url: str
    types: list[str] = Field(description="Only events of these types; empty: all")
    description: str
    enabled: bool
    disabled_reason: DisabledReason | None = Field(
        description="staff: an admin disabled it; gone: it responded with 410; failing: nothing but failures for 5 days"
    )
    failing_since: datetime | None = Field(description="Every attempt since then has failed; null if the last worked")
    previous_secret_expires_at: datetime | None = Field(
        description="Until then, messages are also signed with the secret before the last rotation"
    )
    replay_since: datetime | None = Field(description="Events since then are still being queued once more")
    created_at: datetime = Field(description="UTC")
    updated_at: datetime = Field(description="UTC; the last change by an admin")


class WebhookListResponse(BaseModel):
    """All webhooks, oldest first; at most 100."""

    webhooks: list[WebhookResponse]


class WebhookSecretResponse(WebhookResponse):
    """A webhook with its new secret."""

    secret: str = Field(description="Signs the messages; it is returned only here")

    @classmethod
    def of(cls, new: NewSecret) -> Self:
        """Show a new secret."""
        return cls(**WebhookResponse.model_validate(new.webhook).model_dump(), secret=new.secret)


class WebhookTestResponse(BaseModel):
    """How the receiver responded to a test message."""

    model_config = ConfigDict(from_attributes=True)

    delivered: bool = Field(description="Whether the status is 2xx")
    status: int | None = Field(description="HTTP status; null without a response")
    response: str = Field(description="The first 200 characters of the response")
    error: str | None = Field(description="Why there is no response")
    duration_ms: int
