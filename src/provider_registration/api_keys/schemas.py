"""Request and response bodies of API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from provider_registration.api_keys.models import MAX_NAME_LENGTH, CreatedKey, KeyState
from provider_registration.auth.models import Role
from provider_registration.events.schemas import EXAMPLE_ACTOR, ActorResponse
from provider_registration.web.instants import Instant
from provider_registration.web.pagination import Pagination
from provider_registration.web.text import Text

EXAMPLE_API_KEY: dict[str, Any] = {
    "api_key_id": "c1a5e0d2-7b34-4f3a-8a6e-2f5f2d7c11aa",
    "name": "ERP import",
    "prefix": "prk_9fK2mX7q",
    "role": "auditor",
    "state": "active",
    "created_at": "2026-03-14T09:26:53.589793Z",
    "created_by": EXAMPLE_ACTOR,
    "expires_at": "2027-03-14T00:00:00Z",
    "revoked_at": None,
    "last_used_at": None,
}
EXAMPLE_KEY = "prk_9fK2mX7qExampleExampleExampleExampleExample"

Name = Annotated[str, Text(MAX_NAME_LENGTH, min_length=1)]


class ApiKeyRequest(BaseModel):
    """A new API key."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="The program that uses it; history and activity show it")
    role: Role = Field(description="What it may do, as for users")
    expires_at: Instant | None = Field(
        None, description="When it stops working, with a UTC offset; null: not before it is revoked"
    )


class ApiKeyResponse(BaseModel):
    """An API key, without the key itself."""

    model_config = ConfigDict(from_attributes=True)

    api_key_id: UUID
    name: str
    prefix: str = Field(description="The first characters of the key, by which it is recognised")
    role: Role
    state: KeyState = Field(description="Only an active key works")
    created_at: datetime = Field(description="UTC")
    created_by: ActorResponse = Field(description="The user, or the service if a command created it")
    expires_at: datetime | None = Field(description="UTC; null if it does not expire")
    revoked_at: datetime | None = Field(description="UTC; null if it was not revoked")
    last_used_at: datetime | None = Field(description="UTC, to the minute, a moment later; null if it was never used")


class ApiKeyListResponse(BaseModel):
    """One page of the API keys, newest first; revoked ones stay."""

    api_keys: list[ApiKeyResponse]
    pagination: Pagination


class NewApiKeyResponse(ApiKeyResponse):
    """A new API key."""

    key: str = Field(description="Send it in `Authorization: Bearer`; it is returned only here")

    @classmethod
    def of(cls, created: CreatedKey) -> Self:
        """Show a new key."""
        return cls(**ApiKeyResponse.model_validate(created.api_key).model_dump(), key=created.key)
