"""Response bodies of similar companies."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from provider_registration.candidates.models import Status
from provider_registration.similar.models import Reason

EXAMPLE_SIMILAR: dict[str, Any] = {
    "similar": [
        {
            "candidate_id": "7d4be0c1-2f0a-4b60-8f5e-3a1c9d2b6e44",
            "company_name": "HUERTA DEL SOL",
            "status": "rejected",
            "rejection_reason": "No cold chain",
            "updated_at": "2026-02-03T09:12:45.123456Z",
            "reasons": ["name", "phone"],
            "score": 1.0,
        }
    ]
}


class SimilarResponse(BaseModel):
    """A candidate that may be the same company."""

    model_config = ConfigDict(from_attributes=True)

    candidate_id: UUID
    company_name: str
    status: Status
    rejection_reason: str | None = Field(description="Why it was rejected; null otherwise, or without a reason")
    updated_at: datetime = Field(description="When it was decided or, while pending, registered; UTC")
    reasons: list[Reason] = Field(description="What is the same or, of names, nearly the same")
    score: float = Field(
        validation_alias="name_score", description="How alike the names are: 1 if equal, 0 if they differ", ge=0, le=1
    )


class SimilarListResponse(BaseModel):
    """Candidates that may be the same company, the likeliest first."""

    similar: list[SimilarResponse]
