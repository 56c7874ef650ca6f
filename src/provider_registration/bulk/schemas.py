"""The request body of decisions about many candidates."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from provider_registration.bulk.models import MAX_LISTED, BulkDecision, Decision, Matching
from provider_registration.candidates.company import MAX_INTEGER
from provider_registration.candidates.models import Status
from provider_registration.candidates.schemas import CandidateFilterQuery, RejectionRequest
from provider_registration.candidates.selection import Order
from provider_registration.jobs.models import MAX_ITEMS, NewItem

SELECTED = Order.OLDEST  # first


class DecisionItem(BaseModel):
    """A candidate to decide."""

    model_config = ConfigDict(extra="forbid")

    candidate_id: UUID
    version: Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER)] | None = Field(
        None, description="Decide it only at this version, as with `If-Match`; null: at any"
    )


class SelectionRequest(CandidateFilterQuery):
    """The filters of the list of candidates; without a status, those that are pending."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = Field(Status.PENDING, description="Only candidates with this status; null: with any")


class DecisionsRequest(RejectionRequest):
    """A decision about many candidates: those listed, or those of a selection."""

    decision: Decision
    items: Annotated[list[DecisionItem], Field(min_length=1, max_length=MAX_LISTED)] | None = Field(
        None, description="Each candidate once; results come in this order"
    )
    selection: SelectionRequest | None = Field(
        None, description="The candidates that match when the request is received, at the versions of that time"
    )
    at_most: Annotated[int, Field(ge=1, le=MAX_ITEMS)] | None = Field(
        None, description=f"Decide at most so many of the selection, the oldest; default {MAX_ITEMS}"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.items is None) == (self.selection is None):
            raise PydanticCustomError("one_of", "Give items or selection, and not both")
        if self.items is not None and self.at_most is not None:
            raise PydanticCustomError("at_most", "at_most is only for a selection")
        if self.decision is Decision.APPROVE and self.reason is not None:
            raise PydanticCustomError("reason", "reason is only for a rejection")
        if self.items is not None and len({item.candidate_id for item in self.items}) < len(self.items):
            raise PydanticCustomError("repeated", "A candidate is listed more than once")
        return self

    def to_bulk_decision(self, job_id: UUID) -> BulkDecision:
        """What the job with this ID carries out."""
        candidates: list[NewItem] | Matching
        if self.selection is not None:
            candidates = Matching(self.selection.to_selection(SELECTED), self.at_most or MAX_ITEMS)
        else:
            candidates = [NewItem(item.candidate_id, item.version) for item in self.items or ()]
        return BulkDecision(job_id, self.decision, self.reason, self.notify, candidates)
