"""Models of decisions about many candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from provider_registration.candidates.selection import Selection
from provider_registration.jobs.models import NewItem

MAX_LISTED = 500  # candidates in one request
APPROVE = "candidates.approve"
REJECT = "candidates.reject"


class Decision(StrEnum):
    """What is decided."""

    APPROVE = "approve"
    REJECT = "reject"

    @property
    def kind(self) -> str:
        """The kind of its jobs."""
        return APPROVE if self is Decision.APPROVE else REJECT


@dataclass(frozen=True, slots=True)
class Matching:
    """The candidates of a selection, in its order; at most `at_most` of them."""

    selection: Selection
    at_most: int


@dataclass(frozen=True, slots=True)
class BulkDecision:
    """A decision about candidates that are listed, or that match a selection when the job is created.

    `notify`: the companies get an e-mail. `job_id`: of the job that carries it out.
    """

    job_id: UUID
    decision: Decision
    reason: str | None
    notify: bool
    candidates: Sequence[NewItem] | Matching

    @property
    def parameters(self) -> dict[str, Any]:
        """What the job needs; the reason may name a person."""
        return {"reason": self.reason, "notify": self.notify}
