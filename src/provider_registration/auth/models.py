"""Staff users and their roles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Role(StrEnum):
    """What a member of staff may do.

    A viewer reads candidates, their history and the last error of an unfinished approval; an auditor also reads earlier
    errors, the feed and what staff did; an admin also decides.
    """

    ADMIN = "admin"
    AUDITOR = "auditor"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class User:
    """The user of a request, with their session."""

    user_id: UUID
    role: Role
    session_id: UUID

    @property
    def may_decide(self) -> bool:
        """Whether the user may approve and reject."""
        return self.role is Role.ADMIN

    @property
    def may_audit(self) -> bool:
        """Whether the user may read everything, including earlier errors of approvals and what staff did."""
        return self.role in (Role.ADMIN, Role.AUDITOR)


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
