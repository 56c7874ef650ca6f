"""The table and the bodies, in SQLAlchemy's and pydantic's usual way."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict, EmailStr, Field, field_validator
from sqlalchemy import DateTime, String, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MAX_INTEGER = 2**31 - 1


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


class Base(DeclarativeBase):
    """The base of the tables."""


class Candidate(Base):
    """A company that registered."""

    __tablename__ = "candidates"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    status: Mapped[str] = mapped_column(String(20), server_default="pending")
    company_name: Mapped[str] = mapped_column(String(255))
    contact_email: Mapped[str] = mapped_column(String(255))
    phone: Mapped[str | None] = mapped_column(String(50))
    products: Mapped[list[str]] = mapped_column(ARRAY(Text))
    truck_count: Mapped[int]
    capacity_tons_per_day: Mapped[int]
    location: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    provider_id: Mapped[int | None]
    version: Mapped[int] = mapped_column(server_default="1")
    rejection_reason: Mapped[str | None] = mapped_column(String(1000))

    __mapper_args__ = {"eager_defaults": True}


class CandidateCreate(BaseModel):
    """The facts about a company."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    company_name: str = Field(min_length=1, max_length=255)
    contact_email: EmailStr = Field(max_length=254)
    phone: str | None = Field(None, max_length=50)
    products: list[Product] = Field(min_length=1, max_length=len(Product))
    truck_count: int = Field(ge=1, le=MAX_INTEGER, strict=True)
    capacity_tons_per_day: int = Field(ge=1, le=MAX_INTEGER, strict=True)
    location: str | None = Field(None, max_length=255)

    @field_validator("products")
    @classmethod
    def _once_each(cls, products: list[Product]) -> list[Product]:
        if len(set(products)) < len(products):
            raise ValueError("each product once")
        return products


class Rejection(BaseModel):
    """The reason for a rejection."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    reason: str | None = Field(None, max_length=1000)


class CandidateOut(BaseModel):
    """A candidate in responses."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    candidate_id: UUID = Field(validation_alias="id")
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
    approval: None = None


class Pagination(BaseModel):
    """The position of a page in the list."""

    total: int
    limit: int
    offset: int
    page: int
    page_size: int
    total_pages: int


class CandidatePage(BaseModel):
    """One page of candidates."""

    candidates: list[CandidateOut]
    pagination: Pagination


class Approved(BaseModel):
    """A candidate was approved."""

    candidate_id: UUID
    status: Status
    provider_id: int


class Rejected(BaseModel):
    """A candidate was rejected."""

    candidate_id: UUID
    status: Status
    rejection_reason: str | None
