"""Staff users and their roles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Role(StrEnum):
    """What a member of staff may do: a viewer reads, an admin decides too."""

    ADMIN = "admin"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class User:
    """A member of staff who asks for something, in a session."""

    user_id: UUID
    role: Role
    session_id: UUID


@dataclass(frozen=True, slots=True)
class BrowserUser:
    """A member of staff who is signed in to pages; `secret` is what their browser shows."""

    user: User
    email: str
    secret: str

    @property
    def may_decide(self) -> bool:
        """Whether they may do more than read."""
        return self.user.role is Role.ADMIN
