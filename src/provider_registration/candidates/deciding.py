"""Turns the obstacle to a decision into an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.candidates.errors import (
    ApprovalInProgress,
    ApprovalNeedsResolution,
    ApprovalUnfinished,
    CandidateChanged,
    CandidateNotFound,
    CandidateNotPending,
    VersionMismatch,
)
from provider_registration.candidates.models import ApprovalState
from provider_registration.errors import ServiceError
from provider_registration.idempotency.models import Answer

# Obstacles that a repeated request would meet again, and what their errors say.
FINAL_OBSTACLES = frozenset({"not_found", "version_mismatch", "not_pending"})
SEEN = ("obstacle", "status_seen", "version_seen")


def final_answer(row: RowMapping) -> Answer | None:
    """What is kept for the idempotency key of a refused decision; None if another try may succeed."""
    return {column: row[column] for column in SEEN} if row["obstacle"] in FINAL_OBSTACLES else None


def refusal_of(row: RowMapping | Mapping[str, Any]) -> ServiceError:  # noqa: PLR0911 - one for each obstacle
    """The error for a row's `obstacle`; the row also has the candidate's status and version."""
    candidate_id: UUID = row["candidate_id"]
    match row["obstacle"]:
        case "not_found":
            return CandidateNotFound(candidate_id)
        case "version_mismatch":
            return VersionMismatch(candidate_id, row["version_seen"])
        case "not_pending":
            return CandidateNotPending(candidate_id, row["status_seen"])
        case ApprovalState.IN_PROGRESS:
            return ApprovalInProgress(candidate_id)
        case ApprovalState.WAITING:
            return ApprovalUnfinished(candidate_id)
        case ApprovalState.IN_DOUBT:
            return ApprovalNeedsResolution(candidate_id)
        case _:  # there was no obstacle when it was read
            return CandidateChanged(candidate_id)
