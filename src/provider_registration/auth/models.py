"""Staff users and their roles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from sqlalchemy import RowMapping


class Role(StrEnum):
    """What a member of staff may do: a viewer reads, an admin decides too."""

    ADMIN = "admin"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class User:
    """A member of staff."""

    user_id: UUID
    email: str
    role: Role
    disabled_at: datetime | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a user from a row of `users`."""
        return cls(user_id=row["id"], email=row["email"], role=Role(row["role"]), disabled_at=row["disabled_at"])
