"""Models of API keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.audit.models import SERVICE, Actor, ActorKind
from provider_registration.auth.models import Role
from provider_registration.web.pagination import Position

MAX_NAME_LENGTH = 100


class KeyState(StrEnum):
    """Whether a key works."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. `created_by`: a user, or the service if a command created it."""

    api_key_id: UUID
    name: str
    prefix: str
    role: Role
    created_at: datetime
    created_by: Actor
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @property
    def state(self) -> KeyState:
        """Whether it works now."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        is_over = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        return KeyState.EXPIRED if is_over else KeyState.ACTIVE

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a key from a row of `api_keys` with the e-mail address of who created it."""
        creator = row["created_by"]
        return cls(
            api_key_id=row["id"],
            name=row["name"],
            prefix=row["prefix"],
            role=Role(row["role"]),
            created_at=row["created_at"],
            created_by=Actor(ActorKind.USER, creator, row["created_by_name"]) if creator else SERVICE,
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
            last_used_at=row["last_used_at"],
        )


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key, with its secret."""

    api_key: ApiKey
    key: str


@dataclass(frozen=True, slots=True)
class ApiKeyPage:
    """One page of the keys, how many there are, and the position of the next page, if any."""

    api_keys: list[ApiKey]
    total: int
    next: Position | None
