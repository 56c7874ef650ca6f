"""Models of e-mails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import RowMapping

STAFF = "staff"  # target of deliveries: `staff:2` is the second address of STAFF_MAIL_TO. The other is `applicant`


class Message(StrEnum):
    """The messages; each has a folder of templates."""

    RECEIVED = "received"
    APPROVED = "approved"
    REJECTED = "rejected"
    LINK = "link"
    DIGEST = "digest"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Mailing:
    """Whether the service sends e-mails, and whether companies can ask for a lost link."""

    sends: bool
    offers_links: bool


@dataclass(frozen=True, slots=True)
class Applicant:
    """The company that an e-mail goes to."""

    company_name: str
    contact_email: str
    language: str | None
    rejection_reason: str | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make one from a row of FIND_APPLICANT."""
        return cls(**row)


@dataclass(frozen=True, slots=True)
class NewApplication:
    """A new application in a digest; `total` is how many the digest has, counted up to COUNTED + 1."""

    candidate_id: UUID
    company_name: str
    created_at: datetime
    total: int

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make one from a row of FIND_NEW_APPLICATIONS."""
        return cls(**row)


@dataclass(frozen=True, slots=True)
class Letter:
    """What an e-mail says: a message, the reader's language, and the values of its template.

    `secret`: of the status link that was made for it.
    """

    message: Message
    to: str
    language: str | None
    values: dict[str, Any]
    secret: str | None = None
