"""Models of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import Field, TypeAdapter
from sqlalchemy import Row, RowMapping

from provider_registration.audit.models import Actor
from provider_registration.candidates.company import FACTS, Company, Product
from provider_registration.candidates.ids import new_candidate_id
from provider_registration.candidates.search_text import search_text
from provider_registration.candidates.status_secrets import hash_of_secret
from provider_registration.db.statements import ERASED_DOMAIN
from provider_registration.web.text import canonical_email

MAX_STATUS_LINKS = 20  # in e-mails about one candidate
# The longest lease of an approval: 1.5 times BILLING_DEADLINE_SECONDS, which is 300 at most.
LONGEST_SECONDS = 450

# The reasons that staff can select for a rejection, by code; the company sees them. Statistics count them by
# code, and texts that are not here as `other`.
STANDARD_REASONS = {
    "enough_suppliers": "We currently have enough suppliers of these products.",
    "capacity_too_small": "The capacity is too small for our routes.",
    "not_verified": "We could not verify the company.",
    "incomplete": "The details are incomplete or inconsistent.",
    "already_registered": "The company is already registered.",
}


class Status(StrEnum):
    """The status of a candidate: pending until decided, approved only once billing has created the provider."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class ApprovalState(StrEnum):
    """The state of an unfinished approval.

    In progress: a worker holds it. Waiting: it is retried automatically. In doubt: an admin must record
    whether the provider with this name in billing belongs to the candidate.
    """

    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class ApprovalSummary:
    """The state of an unfinished approval; `next_attempt_at` is set only if it waits for a retry."""

    state: ApprovalState
    requested_at: datetime
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None


class Candidate(Company):
    """A company that registered. `version` is 1 at registration; a decision and erasure add 1.

    `approval` is its unfinished approval, if any.
    """

    candidate_id: UUID
    status: Status
    created_at: datetime
    updated_at: datetime
    provider_id: int | None
    version: int
    rejection_reason: str | None
    rejected_by: UUID | None
    approval: ApprovalSummary | None

    @property
    def is_erased(self) -> bool:
        """Whether its personal data was erased."""
        return self.contact_email.endswith(ERASED_DOMAIN)

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
            approval=_approval_of(row),
        )


def facts_of(row: RowMapping) -> dict[str, Any]:
    """The facts of a row, without validation: rules may have changed since it was stored."""
    return {**{fact: row[fact] for fact in FACTS}, "products": [Product(product) for product in row["products"]]}


def _approval_of(row: RowMapping) -> ApprovalSummary | None:
    """The unfinished approval of a candidate, if the statement selects it."""
    if not row.get("approval_state"):
        return None
    state = ApprovalState(row["approval_state"])
    return ApprovalSummary(
        state=state,
        requested_at=row["approval_requested_at"],
        attempts=row["approval_attempts"],
        next_attempt_at=row["approval_next_attempt_at"] if state is ApprovalState.WAITING else None,
        last_error=row["approval_last_error"],
    )


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """A candidate for API responses. `json` is the whole record in the API's format, built by PostgreSQL."""

    candidate_id: UUID
    version: int
    json: str

    @property
    def has_approval(self) -> bool:
        """Whether it has an unfinished approval: the last field of the record."""
        return not self.json.endswith('"approval":null}')

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make a record from a row of one of the statements that select records."""
        return cls(candidate_id=row.id, version=row.version, json=row.json)


@dataclass(frozen=True, slots=True)
class Registered:
    """A newly registered candidate. `status_secret` is not stored, only its hash; None if public pages are off.

    `is_replay`: it was registered by an earlier request with the same idempotency key.
    """

    record: CandidateRecord
    status_secret: str | None
    is_replay: bool = False


class Application(Company):
    """A candidate as the company may see it: its facts and the decision."""

    status: Status
    created_at: datetime
    decided_at: datetime | None
    rejection_reason: str | None
    language: str | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make an application from a row of FIND_APPLICATION."""
        return cls.model_construct(**{**row, **facts_of(row), "status": Status(row["status"])})

    def matches(self, company: Company) -> bool:
        """Whether it has the same facts as a company."""
        return all(getattr(self, fact) == getattr(company, fact) for fact in FACTS)


class Registration(Company):
    """A company as it is stored: with its ID, canonical e-mail, search text and the hash of its status secret.

    The hash is in PostgreSQL's hex format for bytea. `language` is the one in which to write to the company.
    """

    candidate_id: UUID = Field(serialization_alias="id")
    contact_email_canonical: str
    search_text: str
    status_secret_hash: str | None
    language: str | None

    @classmethod
    def of(cls, company: Company, status_secret: str | None, language: str | None) -> Self:
        """Make a registration from the facts of a company."""
        return cls.model_construct(
            **{fact: getattr(company, fact) for fact in FACTS},
            candidate_id=new_candidate_id(),
            contact_email_canonical=canonical_email(company.contact_email),
            search_text=search_text(company.company_name, company.contact_email, company.phone, company.location),
            status_secret_hash=stored_hash(status_secret) if status_secret else None,
            language=language,
        )


_REGISTRATIONS = TypeAdapter(list[Registration])


def registrations_json(registrations: Sequence[Registration]) -> str:
    """Registrations as a statement's parameter."""
    return _REGISTRATIONS.dump_json(list(registrations), by_alias=True).decode()


def stored_hash(status_secret: str) -> str:
    """The hash of a status secret in PostgreSQL's hex format for bytea."""
    return f"\\x{hash_of_secret(status_secret)}"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejection by staff. `expected` has the versions that the admin may have seen; None: any.

    `notify`: the company gets an e-mail. `job_id`: the job that carries it out, if one does.
    """

    candidate_id: UUID
    reason: str | None
    actor: Actor
    expected: frozenset[int] | None
    notify: bool = True
    job_id: UUID | None = None
