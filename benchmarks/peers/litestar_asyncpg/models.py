"""The bodies, as msgspec structs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

MAX_INTEGER = 2**31 - 1
PositiveInteger = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class Status(StrEnum):
    """The status of a candidate."""

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


class Registration(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a company says of itself; in the order of the statement that stores it."""

    company_name: Annotated[str, Meta(min_length=1, max_length=255)]
    contact_email: Annotated[str, Meta(max_length=254)]
    phone: Annotated[str, Meta(max_length=50)] | None = None
    products: Annotated[list[Product], Meta(min_length=1, max_length=5)]
    truck_count: PositiveInteger
    capacity_tons_per_day: PositiveInteger
    location: Annotated[str, Meta(max_length=255)] | None = None


class Rejection(Struct, forbid_unknown_fields=True):
    """The reason for a rejection."""

    reason: Annotated[str, Meta(max_length=1000)] | None = None


class Candidate(Struct):
    """A candidate in responses."""

    candidate_id: UUID
    status: str
    company_name: str
    contact_email: str
    phone: str | None
    products: list[str]
    truck_count: int
    capacity_tons_per_day: int
    location: str | None
    created_at: datetime
    updated_at: datetime
    provider_id: int | None
    version: int
    rejection_reason: str | None
    approval: Any = None  # JSON


class Pagination(Struct):
    """The position of a page in the list."""

    total: int
    limit: int
    offset: int
    page: int
    page_size: int
    total_pages: int
    next_cursor: str | None


class CandidatePage(Struct):
    """One page of candidates."""

    candidates: list[Candidate]
    pagination: Pagination


class Approved(Struct):
    """A candidate was approved."""

    candidate_id: UUID
    status: Status
    provider_id: int


class Rejected(Struct):
    """A candidate was rejected."""

    candidate_id: UUID
    status: Status
    rejection_reason: str | None
