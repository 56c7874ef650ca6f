"""Models of the statistics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status

BUCKETS_PER_DOUBLING = 16  # of times to a decision, as in the database's function statistics_bucket

# The events of approvals that are outcomes.
OUTCOMES = (
    ApprovalEvent.APPROVED,
    ApprovalEvent.LINKED,
    ApprovalEvent.FAILED,
    ApprovalEvent.IN_DOUBT,
    ApprovalEvent.LET_GO,
    ApprovalEvent.ORPHANED,
)


class Interval(StrEnum):
    """How long a bucket is; weeks begin on Monday (ISO 8601)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def start_of(self, day: date) -> date:
        """The first day of the bucket that has this day."""
        match self:
            case Interval.DAY:
                return day
            case Interval.WEEK:
                return day - timedelta(days=day.weekday())
            case Interval.MONTH:
                return day.replace(day=1)

    def starts(self, first: date, last: date) -> list[date]:
        """The first days of the buckets from the one of `first` to the one of `last`."""
        start, starts = self.start_of(first), []
        while start <= last:
            starts.append(start)
            start = self.start_of(start + timedelta(days={"day": 1, "week": 7, "month": 31}[self]))
        return starts

    @property
    def max_days(self) -> int:
        """The longest period: a leap year of days, or five years."""
        return 366 if self is Interval.DAY else 5 * 366


# The first and last days of periods; nothing was before.
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)


class Grouping(StrEnum):
    """What the figures are grouped by."""

    PRODUCT = "product"
    DECIDED_BY = "decided_by"
    REASON = "reason"


class Reason(StrEnum):
    """Why candidates were rejected: the reasons that staff can select, and what else there is."""

    ENOUGH_SUPPLIERS = "enough_suppliers"
    CAPACITY_TOO_SMALL = "capacity_too_small"
    NOT_VERIFIED = "not_verified"
    INCOMPLETE = "incomplete"
    ALREADY_REGISTERED = "already_registered"
    OTHER = "other"
    NONE = "none"
    ERASED = "erased"


SERVICE, OTHERS = "service", "others"  # groups of deciders: nobody who is known, and all but the busiest


@dataclass(frozen=True, slots=True)
class Period:
    """Days in UTC, both included, in buckets."""

    first: date
    last: date
    interval: Interval
    by: Grouping | None = None


@dataclass(frozen=True, slots=True)
class TimeToDecision:
    """Percentiles in seconds, exact to 2.2 %; None without decisions."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened in some days. None: there is no such figure with this grouping.

    `pending` and `oldest_age` (in seconds) are of the end of the days, or of now if that is earlier.
    """

    registered: int | None
    approved: int | None
    rejected: int
    time_to_decision: TimeToDecision
    approvals: dict[ApprovalEvent, int] | None
    pending: int | None
    oldest_age: float | None

    @property
    def decided(self) -> int:
        """How many were approved or rejected."""
        return (self.approved or 0) + self.rejected


@dataclass(frozen=True, slots=True)
class Bucket:
    """The figures of a day, week or month, as far as it is in the period."""

    start: date
    figures: Figures


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one group, or of all. `name`: the e-mail address of a user."""

    group: str | None
    name: str | None
    totals: Figures
    buckets: list[Bucket]


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures of a period. `is_complete`: false while many of the newest events are not counted yet."""

    period: Period
    series: list[Series]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class ProductOffer:
    """Candidates with a product, by status, and the capacity of the approved ones."""

    product: Product
    candidates: dict[Status, int]
    tons_per_day: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures of now."""

    candidates: dict[Status, int]
    oldest_pending: datetime | None
    offers: list[ProductOffer]
    tons_per_day: int
