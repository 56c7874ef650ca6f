"""Models of similar companies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from provider_registration.candidates.models import Status


class Reason(StrEnum):
    """Why two companies may be the same."""

    NAME = "name"
    EMAIL_DOMAIN = "email_domain"
    PHONE = "phone"


@dataclass(frozen=True, slots=True)
class SimilarCandidate:
    """Another candidate that may be the same company, with its decision.

    `name_score`: how alike the names are: 1 if equal, 0 if they differ. `updated_at`: of a decided one, when.
    """

    candidate_id: UUID
    company_name: str
    status: Status
    rejection_reason: str | None
    updated_at: datetime
    reasons: tuple[Reason, ...]
    name_score: float
