"""The table and the bodies, in Django's and Ninja's usual way."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from ninja import Schema
from pydantic import ConfigDict, EmailStr, Field, field_validator

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


class Candidate(models.Model):
    """A company that registered."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    status = models.CharField(max_length=20, default="pending")
    company_name = models.CharField(max_length=255)
    contact_email = models.CharField(max_length=255)
    phone = models.CharField(max_length=50, null=True)
    products = ArrayField(models.TextField())
    truck_count = models.IntegerField()
    capacity_tons_per_day = models.IntegerField()
    location = models.CharField(max_length=255, null=True)
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    provider_id = models.IntegerField(null=True)
    version = models.IntegerField(default=1)
    rejection_reason = models.CharField(max_length=1000, null=True)

    class Meta:
        """The table."""

        app_label = "candidates"
        db_table = "candidates"
        managed = False


class Registration(Schema):
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


class Rejection(Schema):
    """The reason for a rejection."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    reason: str | None = Field(None, max_length=1000)


class CandidateOut(Schema):
    """A candidate in responses."""

    candidate_id: uuid.UUID = Field(alias="id")
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


class Pagination(Schema):
    """The position of a page in the list."""

    total: int
    limit: int
    offset: int
    page: int
    page_size: int
    total_pages: int


class CandidatePage(Schema):
    """One page of candidates."""

    candidates: list[CandidateOut]
    pagination: Pagination


class Approved(Schema):
    """A candidate was approved."""

    candidate_id: uuid.UUID
    status: Status
    provider_id: int


class Rejected(Schema):
    """A candidate was rejected."""

    candidate_id: uuid.UUID
    status: Status
    rejection_reason: str | None
