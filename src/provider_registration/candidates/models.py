"""What a candidate is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import Row, RowMapping

from provider_registration.web.pagination import Position
from provider_registration.web.text import canonical_email

LONGEST_SECONDS = (
    450  # that any process holds an approval: its lease is 1.5 times BILLING_DEADLINE_SECONDS, 300 at most
)


class Status(StrEnum):
    """Where a candidate stands; pending until someone decides, and approved only once billing has answered."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class Product(StrEnum):
    """What suppliers deliver."""

    APPLES = "apples"
    ORANGES = "oranges"
    GRAPES = "grapes"
    BANANAS = "bananas"
    MANGOES = "mangoes"


class ApprovalState(StrEnum):
    """Where an unfinished approval stands.

    In progress: a worker holds it. Waiting: it will be tried again by itself. In doubt: an admin has to say
    whether the provider of this name in billing is the candidate's.
    """

    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class ApprovalStanding:
    """Where an unfinished approval stands; `next_attempt_at` is when a waiting one is tried next."""

    state: ApprovalState
    requested_at: datetime
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A company that registered. `version` is 1 at registration and grows with every change.

    `approval` is an approval that is not finished yet.
    """

    candidate_id: UUID
    status: Status
    company_name: str
    contact_email: str
    phone: str | None
    products: list[Product]
    truck_count: int
    capacity_tons_per_day: int
    location: str | None
    created_at: datetime
    updated_at: datetime
    provider_id: int | None
    version: int
    rejection_reason: str | None
    rejected_by: UUID | None
    approval: ApprovalStanding | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a candidate from a row of `candidates`."""
        return cls(
            candidate_id=row["id"],
            status=Status(row["status"]),
            company_name=row["company_name"],
            contact_email=row["contact_email"],
            phone=row["phone"],
            products=[Product(product) for product in row["products"]],
            truck_count=row["truck_count"],
            capacity_tons_per_day=row["capacity_tons_per_day"],
            location=row["location"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            provider_id=row["provider_id"],
            version=row["version"],
            rejection_reason=row["rejection_reason"],
            rejected_by=row["rejected_by"],
            approval=_standing(row),
        )


def _standing(row: RowMapping) -> ApprovalStanding | None:
    """The unfinished approval of a candidate, where the statement asked for it."""
    if not row.get("approval_state"):
        return None
    state = ApprovalState(row["approval_state"])
    return ApprovalStanding(
        state=state,
        requested_at=row["approval_requested_at"],
        attempts=row["approval_attempts"],
        next_attempt_at=row["approval_next_attempt_at"] if state is ApprovalState.WAITING else None,
        last_error=row["approval_last_error"],
    )


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """A candidate for readers. `json` is the whole record as PostgreSQL wrote it, in the shape of the API."""

    candidate_id: UUID
    version: int
    json: str

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make a record from a row of one of the statements that select records."""
        return cls(candidate_id=row.id, version=row.version, json=row.json)


@dataclass(frozen=True, slots=True)
class Registered:
    """A candidate that was just registered. Nobody else is ever told its `status_secret`; None where none is made."""

    record: CandidateRecord
    status_secret: str | None


# What a company says of itself, in a registration and in the application that it makes.
SAID = (*("company_name", "contact_email", "phone", "products", "truck_count", "capacity_tons_per_day", "location"),)


@dataclass(frozen=True, slots=True)
class Application:
    """A candidate as the company itself may see it: what it sent in, and what was decided."""

    status: Status
    company_name: str
    contact_email: str
    phone: str | None
    products: list[Product]
    truck_count: int
    capacity_tons_per_day: int
    location: str | None
    created_at: datetime
    decided_at: datetime | None
    rejection_reason: str | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make an application from a row of FIND_APPLICATION."""
        products = [Product(product) for product in row["products"]]
        return cls(**{**row, "status": Status(row["status"]), "products": products})

    def says(self, registration: Registration) -> bool:
        """Whether it is what a registration says."""
        return all(getattr(self, name) == getattr(registration, name) for name in SAID)


@dataclass(frozen=True, slots=True)
class CandidatePage:
    """One page of a list. `records` is the JSON of its candidates as PostgreSQL wrote it, in the shape of the API."""

    records: str
    total: int
    next: Position | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a page from the row of a list."""
        end = Position(row["last_created_at"], row["last_id"]) if row["has_more"] else None
        return cls(records=row["records"], total=row["total"], next=end)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a company says of itself, and what it gets: an id, a search text, and the hash of a status secret.

    The hash is in hexadecimal.
    """

    company_name: str
    contact_email: str
    phone: str | None
    products: list[Product]
    truck_count: int
    capacity_tons_per_day: int
    location: str | None
    candidate_id: UUID = field(default_factory=uuid4)
    status_secret_hash: str | None = None
    search_text: str | None = None
    contact_email_canonical: str = ""  # made from contact_email; pydantic would not write a field with init=False

    def __post_init__(self) -> None:
        object.__setattr__(self, "contact_email_canonical", canonical_email(self.contact_email))


@dataclass(frozen=True, slots=True)
class Rejection:
    """What an admin decided against, and which one. `expected` has the versions that they may have seen; None: any."""

    candidate_id: UUID
    reason: str | None
    user_id: UUID
    expected: frozenset[int] | None
