"""Request and response bodies of the candidate endpoints."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from provider_registration.candidates.company import EXAMPLE, MAX_INTEGER, TYPES, BlankIsAbsent, Company, Product
from provider_registration.candidates.models import ApprovalState, Status
from provider_registration.candidates.selection import FILTERS, MAX_WORDS_LENGTH, ListPosition, Order, Selection
from provider_registration.web.instants import Instant
from provider_registration.web.openapi import EXAMPLE_ID
from provider_registration.web.pagination import CURSOR_DESCRIPTION, CursorPagination, CursorQuery, LongCursor, Page
from provider_registration.web.text import LANGUAGE_TAG, MAX_TAG_LENGTH, EmailAddress, Text, canonical_email

Reason = Annotated[str, Text(1000)]

EXAMPLE_CANDIDATE: dict[str, Any] = {
    "candidate_id": str(EXAMPLE_ID),
    "status": "pending",
    **EXAMPLE,
    "created_at": "2026-03-14T09:26:53.589793Z",
    "updated_at": "2026-03-14T09:26:53.589793Z",
    "provider_id": None,
    "version": 1,
    "rejection_reason": None,
    "approval": None,
}
EXAMPLE_SUMMARY: dict[str, Any] = {
    "state": "waiting",
    "requested_at": "2026-03-14T10:00:00.123456Z",
    "attempts": 2,
    "next_attempt_at": "2026-03-14T10:00:31.654321Z",
    "last_error": "billing did not respond (timeout)",
}
EXAMPLE_STATUS_URL = "/applications/pJ3nV8sK1xQ6wZ0rT5yL9uC2bM7dF4gH8aE1oI6kN3s"
EXAMPLE_APPROVED: dict[str, Any] = {"candidate_id": str(EXAMPLE_ID), "status": "approved", "provider_id": 4711}


class CandidateRegistration(Company):
    """The data of a company that registers."""

    model_config = ConfigDict(extra="forbid")

    language: Annotated[str, Field(max_length=MAX_TAG_LENGTH, pattern=LANGUAGE_TAG)] | None = Field(
        None,
        description="The company's language, as an RFC 5646 tag. Its status page and e-mails use it if a translation "
        "exists.",
    )


class DecisionRequest(BaseModel):
    """A decision."""

    model_config = ConfigDict(extra="forbid")

    notify: Annotated[bool, Field(strict=True)] = Field(
        True, description="Whether the company gets an e-mail, if the service sends e-mails; default: true"
    )


class RejectionRequest(DecisionRequest):
    """A rejection and its reason."""

    reason: Annotated[Reason | None, BlankIsAbsent] = Field(
        None, description="Shown to the company, on its status page and in the e-mail"
    )


def _is_cursor(value: str) -> str:
    ListPosition.from_cursor(value)
    return value


ListCursor = Annotated[LongCursor, AfterValidator(_is_cursor)]
Words = Annotated[str, Text(MAX_WORDS_LENGTH, min_length=1)]
Least = Annotated[int, Field(ge=1, le=MAX_INTEGER)]


class CandidateFilterQuery(BaseModel):
    """The filters of the list, combined with AND."""

    status: Status | None = Field(None, description="Only candidates with this status")
    product: Product | None = Field(None, description="Only candidates that deliver this product")
    q: Words | None = Field(
        None,
        description="Only candidates that have all these words in name, e-mail address, phone number or location: also "
        "inside words, without accents, in another script; if there are at most 200, also those with one typing error "
        "in words of the name. Or the ID of a candidate or provider",
    )
    registered_from: Instant | None = Field(None, description="Only candidates registered at or after this time")
    registered_to: Instant | None = Field(None, description="Only candidates registered before this time")
    decided_from: Instant | None = Field(None, description="Only candidates decided at or after this time")
    decided_to: Instant | None = Field(None, description="Only candidates decided before this time")
    capacity_min: Least | None = Field(None, description="At least so many tonnes per day")
    capacity_max: Least | None = Field(None, description="At most so many tonnes per day")
    trucks_min: Least | None = Field(None, description="At least so many trucks")
    trucks_max: Least | None = Field(None, description="At most so many trucks")
    decided_by: UUID | None = Field(
        None, description="Only candidates that this user or API key approved or rejected; while the event is kept"
    )
    contact_email: EmailAddress | None = Field(
        None, description="Only the candidate with this address, in any spelling"
    )
    updated_since: Instant | None = Field(None, description="Only candidates changed at or after this time")

    def to_selection(self, order: Order) -> Selection:
        """The selection with these filters."""
        values = {name: getattr(self, name) for name in FILTERS}
        if self.contact_email is not None:
            values["contact_email"] = canonical_email(self.contact_email)
        return Selection(words=self.q or "", order=order, **values)


class ExportQuery(CandidateFilterQuery):
    """The filters and order of an export."""

    model_config = ConfigDict(extra="forbid")

    sort: Order | None = Field(None, description="The order; as in the list")

    @model_validator(mode="after")
    def _have_words_to_rank(self) -> Self:
        if self.sort is Order.RELEVANCE and self.q is None:
            raise PydanticCustomError("no_words", "Sort by relevance only with q")
        return self

    @property
    def selection(self) -> Selection:
        """The filters and the order."""
        return self.to_selection(self.sort or (Order.RELEVANCE if self.q is not None else Order.NEWEST))

    @property
    def names(self) -> list[str]:
        """The filters that are set, without their values: words and addresses may name a person."""
        return sorted(name for name in self.model_fields_set - {"sort"} if getattr(self, name) is not None)


class CandidateListQuery(CandidateFilterQuery, CursorQuery):
    """Filters, order and pagination of the list."""

    cursor: ListCursor | None = Field(None, description=CURSOR_DESCRIPTION)
    sort: Order | None = Field(
        None,
        description="The order; after a minus, descending. Default: `-created_at`, and with `q`, `relevance`: the best "
        "200, without a cursor",
    )

    @model_validator(mode="after")
    def _have_one_order(self) -> Self:
        if self.order is Order.RELEVANCE and self.q is None:
            raise PydanticCustomError("no_words", "Sort by relevance only with q")
        if self.order is Order.RELEVANCE and self.cursor is not None:
            raise PydanticCustomError("no_cursor", "A list by relevance has no cursor; use offset or page")
        if self.cursor is not None and ListPosition.from_cursor(self.cursor).order is not self.order:
            raise PydanticCustomError("other_order", "The cursor is from a list in another order")
        return self

    @property
    def order(self) -> Order:
        """The order of the list."""
        return self.sort or (Order.RELEVANCE if self.q is not None else Order.NEWEST)

    @property
    def selection(self) -> Selection:
        """The filters and the order."""
        return self.to_selection(self.order)

    def to_page(self) -> Page[ListPosition]:
        """The requested slice."""
        page: Page[ListPosition] = super().to_page()
        return page if self.cursor is None else replace(page, after=ListPosition.from_cursor(self.cursor))


class ApprovalSummaryResponse(BaseModel):
    """The state of an unfinished approval."""

    model_config = ConfigDict(from_attributes=True)

    state: ApprovalState = Field(
        description="in_progress: running; waiting: retried at next_attempt_at; in_doubt: an admin must resolve it"
    )
    requested_at: datetime = Field(description="When the approval was requested, UTC")
    attempts: int = Field(description="Attempts to call billing")
    next_attempt_at: datetime | None = Field(description="When a waiting approval is retried, UTC")
    last_error: str | None = Field(description="Why the last attempt failed")


# Two bases, because the facts are in the middle of the record.
class _Identity(BaseModel):
    candidate_id: UUID
    status: Status


_DESCRIBED: dict[str, Any] = {
    fact: (kind, Field(description=Company.model_fields[fact].description)) for fact, kind in TYPES.items()
}
_Facts = create_model("_Facts", **_DESCRIBED)


class CandidateResponse(_Facts, _Identity):  # type: ignore[valid-type, misc]
    """The whole record of a candidate."""

    model_config = ConfigDict(from_attributes=True)

    created_at: datetime = Field(description="UTC")
    updated_at: datetime = Field(description="UTC")
    provider_id: int | None = Field(description="Provider ID in billing; null unless approved")
    version: int = Field(description="1 at registration; a decision adds 1, and so does erasure. Also the ETag")
    rejection_reason: str | None
    approval: ApprovalSummaryResponse | None = Field(description="The unfinished approval, if any")


STATUS_PAGE_URL = Field(None, description="The full URL of the status page, only if `PUBLIC_URL` is set")


class RegistrationResponse(CandidateResponse):
    """The whole record of a newly registered candidate."""

    status_url: str | SkipJsonSchema[None] = Field(
        None, description="The path of the company's status page, only if public pages are on"
    )
    status_page_url: str | SkipJsonSchema[None] = STATUS_PAGE_URL


class StatusLinkResponse(BaseModel):
    """The link to a candidate's status page."""

    status_url: str = Field(description="The path of the company's status page")
    status_page_url: str | SkipJsonSchema[None] = STATUS_PAGE_URL


class CandidateListResponse(BaseModel):
    """One page of candidates."""

    candidates: list[CandidateResponse]
    pagination: CursorPagination


class RejectionResponse(BaseModel):
    """A rejected candidate."""

    model_config = ConfigDict(from_attributes=True)

    candidate_id: UUID = Field(examples=[EXAMPLE_ID])
    status: Literal[Status.REJECTED]
    rejection_reason: str | None = Field(examples=["No cold chain"])
