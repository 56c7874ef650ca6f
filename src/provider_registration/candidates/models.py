"""What a candidate is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID, uuid4

from pydantic import Field
from sqlalchemy import Row, RowMapping

from provider_registration.candidates.company import FACTS, Company, Product
from provider_registration.candidates.search_text import search_text
from provider_registration.candidates.status_secrets import hash_of_secret
from provider_registration.web.pagination import Position
from provider_registration.web.text import canonical_email

# That any process holds an approval: its lease is 1.5 times BILLING_DEADLINE_SECONDS, which is 300 at most.
LONGEST_SECONDS = 450


class Status(StrEnum):
    """Where a candidate stands; pending until someone decides, and approved only once billing has answered."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


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


class Candidate(Company):
    """A company that registered. `version` is 1 at registration and grows with every change.

    `approval` is an approval that is not finished yet.
    """

    candidate_id: UUID
    status: Status
    created_at: datetime
    updated_at: datetime
    provider_id: int | None
    version: int
    rejection_reason: str | None
    rejected_by: UUID | None
    approval: ApprovalStanding | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a candidate from a row with the columns of CANDIDATE_COLUMNS and, if it has them, APPROVAL_COLUMNS."""
        return cls.model_construct(
            **facts_of(row),
            candidate_id=row["id"],
            status=Status(row["status"]),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            provider_id=row["provider_id"],
            version=row["version"],
            rejection_reason=row["rejection_reason"],
            rejected_by=row["rejected_by"],
            approval=_standing(row),
        )


def facts_of(row: RowMapping) -> dict[str, Any]:
    """What a company says of itself, of a row; as it was stored, whatever the rules were then."""
    return {**{fact: row[fact] for fact in FACTS}, "products": [Product(product) for product in row["products"]]}


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


class Application(Company):
    """A candidate as the company itself may see it: what it sent in, and what was decided."""

    status: Status
    created_at: datetime
    decided_at: datetime | None
    rejection_reason: str | None
    language: str | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make an application from a row of FIND_APPLICATION."""
        return cls.model_construct(**{**row, **facts_of(row), "status": Status(row["status"])})

    def says(self, company: Company) -> bool:
        """Whether it is what a company says of itself."""
        return all(getattr(self, fact) == getattr(company, fact) for fact in FACTS)


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


class Registration(Company):
    """A company as it is stored: with an id, what it is compared and found by, and the hash of its status secret.

    The hash is in PostgreSQL's hex format of bytea. `language` is what the company is written to in.
    """

    candidate_id: UUID = Field(serialization_alias="id")
    contact_email_canonical: str
    search_text: str
    status_secret_hash: str | None
    language: str | None

    @classmethod
    def of(cls, company: Company, status_secret: str | None, language: str | None) -> Self:
        """Make a registration of what a company says."""
        return cls.model_construct(
            **{fact: getattr(company, fact) for fact in FACTS},
            candidate_id=uuid4(),
            contact_email_canonical=canonical_email(company.contact_email),
            search_text=search_text(company.company_name, company.contact_email, company.phone, company.location),
            status_secret_hash=f"\\x{hash_of_secret(status_secret)}" if status_secret else None,
            language=language,
        )


@dataclass(frozen=True, slots=True)
class Rejection:
    """What an admin decided against, and which one. `expected` has the versions that they may have seen; None: any."""

    candidate_id: UUID
    reason: str | None
    user_id: UUID
    expected: frozenset[int] | None
