"""Models of the statistics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status


@dataclass(frozen=True, slots=True)
class Day:
    """The counts of one day, in UTC."""

    date: date
    registered: int
    approved: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ProductOffer:
    """Candidates with a product, by status, and the capacity of the approved ones."""

    product: Product
    candidates: dict[Status, int]
    tons_per_day: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures of the overview page. Times to decision are in seconds; None without decisions in `days`."""

    candidates: dict[Status, int]
    oldest_pending: datetime | None
    days: list[Day]
    median_seconds: float | None
    slow_seconds: float | None
    approvals: dict[ApprovalEvent, int]
    offers: list[ProductOffer]
    tons_per_day: int
