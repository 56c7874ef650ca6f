"""Staff users and their roles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from provider_registration.audit.models import Actor, ActorKind


class Role(StrEnum):
    """What a member of staff may do.

    A viewer reads candidates, their history and the last error of an unfinished approval; an auditor also reads earlier
    errors, the feed and what staff did; an admin also decides.
    """

    ADMIN = "admin"
    AUDITOR = "auditor"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller(ABC):
    """Who makes a request, and in which role."""

    role: Role

    @property
    @abstractmethod
    def actor(self) -> Actor:
        """Who is recorded as having done what the request does."""

    @property
    @abstractmethod
    def credential_id(self) -> UUID:
        """What requests and streams are counted for, and what is revoked."""

    @property
    def has_expired(self) -> bool:
        """Whether the credential has expired; of users, tokens are checked when a request begins."""
        return False

    @property
    def may_decide(self) -> bool:
        """Whether the caller may approve and reject."""
        return self.role is Role.ADMIN

    @property
    def may_audit(self) -> bool:
        """Whether the caller may read everything, including earlier errors of approvals and what staff did."""
        return self.role in (Role.ADMIN, Role.AUDITOR)


@dataclass(frozen=True, slots=True)
class User(Caller):
    """A member of staff, with their session."""

    user_id: UUID
    session_id: UUID

    @property
    def actor(self) -> Actor:
        """The user."""
        return Actor.user(self.user_id)

    @property
    def credential_id(self) -> UUID:
        """The session."""
        return self.session_id


@dataclass(frozen=True, slots=True)
class Program(Caller):
    """A program with an API key; it outlives the user who created the key."""

    api_key_id: UUID
    expires_at: datetime | None

    @property
    def actor(self) -> Actor:
        """The key."""
        return Actor(ActorKind.API_KEY, self.api_key_id)

    @property
    def credential_id(self) -> UUID:
        """The key."""
        return self.api_key_id

    @property
    def has_expired(self) -> bool:
        """Whether the key has expired."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class BrowserUser:
    """A user who is signed in to the console; `secret` is the value of the browser's session cookie."""

    user: User
    email: str
    secret: str

    @property
    def may_decide(self) -> bool:
        """As `User.may_decide`."""
        return self.user.may_decide

    @property
    def may_audit(self) -> bool:
        """As `User.may_audit`."""
        return self.user.may_audit
