"""What is summed up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on a day, in UTC."""

    date: date
    registered: int
    approved: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ProductOffer:
    """How many candidates have a product, by status, and the tons a day of those who are approved."""

    product: Product
    candidates: dict[Status, int]
    tons_per_day: int


@dataclass(frozen=True, slots=True)
class Overview:
    """How things stand and went. Times to decision are in seconds, None when nothing was decided."""

    candidates: dict[Status, int]
    oldest_pending: datetime | None
    days: list[Day]
    median_seconds: float | None
    slow_seconds: float | None
    approvals: dict[ApprovalEvent, int]
    offers: list[ProductOffer]
    tons_per_day: int
