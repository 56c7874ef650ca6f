"""The overview page: figures and plots of a chosen period."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from math import ceil, log10
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.console.layout import HOME, EmptyIsAbsent, LayoutDep
from provider_registration.console.reasons import REASON_NAMES
from provider_registration.statistics.dependencies import StatisticsServiceDep
from provider_registration.statistics.models import (
    FIRST_DAY,
    LAST_DAY,
    OTHERS,
    SERVICE,
    Bucket,
    Grouping,
    Interval,
    Period,
    Series,
)

router = APIRouter(include_in_schema=False)

# Labels of the outcomes of approvals.
OUTCOMES = {
    ApprovalEvent.APPROVED: ("Approved", "good"),
    ApprovalEvent.LINKED: ("Linked manually", "good"),
    ApprovalEvent.FAILED: ("Failed", "bad"),
    ApprovalEvent.IN_DOUBT: ("Needs checking", "warn"),
    ApprovalEvent.LET_GO: ("Cancelled manually", "muted"),
    ApprovalEvent.ORPHANED: ("Unlinked provider", "bad"),
}
PERIODS = {"7": "7 days", "30": "30 days", "90": "90 days", "year": "12 months"}
MOST_BARS_OF_DAYS, MOST_DAYS_IN_WEEKS = 92, 184  # three months and six
MOST_DAYS = Interval.MONTH.max_days
PEOPLE = {SERVICE: "Nobody recorded", OTHERS: "All others"}

# A plot holds coordinates. The template draws it as SVG, with the same numbers in a table.
WIDTH, HEIGHT = 640, 180  # in the plot's own units; it scales with the page
LEFT, BOTTOM = 60, 26  # room for the numbers and the days
GAP = 3  # between bars
DATES = 6  # that are shown, at most
TICKS = 3


class OverviewQuery(BaseModel):
    """The query parameters of the page: a period up to today, or days in UTC, both included."""

    period: Annotated[Literal["7", "30", "90", "year"] | None, EmptyIsAbsent] = None
    first: Annotated[date | None, EmptyIsAbsent] = Field(None, alias="from")
    last: Annotated[date | None, EmptyIsAbsent] = Field(None, alias="to")

    def days(self, today: date) -> tuple[date, date]:
        """The first and the last day."""
        if self.period is None and (self.first or self.last):
            last = self.last or today
            return self.first or last - timedelta(days=29), last
        if self.period == "year":
            return (today.replace(day=1) - timedelta(days=334)).replace(day=1), today
        return today - timedelta(days=int(self.period or 30) - 1), today

    @property
    def chosen(self) -> str | None:
        """Which of PERIODS is shown."""
        return self.period or (None if self.first or self.last else "30")

    @property
    def query_string(self) -> str:
        """The query string of the same page."""
        values = self.model_dump(mode="json", by_alias=True)
        return urlencode({name: value for name, value in values.items() if value})


DEFAULT = OverviewQuery.model_validate({})


def interval_of(first: date, last: date) -> Interval:
    """How long the bars are: days up to three months, weeks up to six, then months."""
    days = (last - first).days + 1
    return (
        Interval.DAY if days <= MOST_BARS_OF_DAYS else Interval.WEEK if days <= MOST_DAYS_IN_WEEKS else Interval.MONTH
    )


def mistake_in(first: date, last: date) -> str | None:
    """What is wrong with the days that were entered."""
    if first > last:
        return "The first day must not be after the last"
    if first < FIRST_DAY or last > LAST_DAY:
        return f"Enter days from {FIRST_DAY.year} to {LAST_DAY.year}"
    return f"Enter at most {MOST_DAYS:,} days" if (last - first).days >= MOST_DAYS else None


@router.get(HOME)
async def overview(
    query: Annotated[OverviewQuery, Query()], statistics: StatisticsServiceDep, layout: LayoutDep
) -> Response:
    """Show pending candidates, decisions and approved capacity."""
    today = datetime.now(UTC).date()
    first, last = query.days(today)
    mistake = mistake_in(first, last)
    if mistake:
        first, last = DEFAULT.days(today)
    interval = interval_of(first, last)

    async def grouped(by: Grouping | None) -> list[Series]:
        return (await statistics.recent(Period(first, last, interval, by))).series

    now = await statistics.overview()
    [everything] = await grouped(None)
    totals, buckets = everything.totals, everything.buckets
    approvals = totals.approvals or {}
    return layout.page(
        "overview.html",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if mistake else HTTPStatus.OK,
        overview=now,
        query=query,
        mistake=mistake,
        periods=PERIODS,
        first=first,
        last=last,
        interval=interval,
        totals=totals,
        buckets=buckets,
        label_of=lambda day: label_of(day, interval),
        registrations=plot_of(buckets, ("registered",)),
        decisions=plot_of(buckets, ("approved", "rejected")),
        backlog=plot_of(buckets, ("pending",)),
        products=await grouped(Grouping.PRODUCT),
        reasons=[(REASON_NAMES[each.group or ""], each.totals.rejected) for each in await grouped(Grouping.REASON)],
        people=[(name_of(each), each.totals) for each in await grouped(Grouping.DECIDED_BY)]
        if layout.signed_in.may_audit
        else None,
        outcomes=[(*words, approvals.get(event, 0)) for event, words in OUTCOMES.items()],
        max_outcomes=max((approvals.get(event, 0) for event in OUTCOMES), default=0),
        max_tons=max(offer.tons_per_day for offer in now.offers),
        share=share,
    )


def name_of(series: Series) -> str:
    """The name of a person in the table."""
    return series.name or PEOPLE.get(series.group or "", "Unknown user")


def label_of(start: date, interval: Interval) -> str:
    """What a bar is called."""
    return f"{start:%b %Y}" if interval is Interval.MONTH else f"{start.day} {start:%b %Y}"


@dataclass(frozen=True, slots=True)
class Part:
    """One coloured part of a bar; `kind` names its colour."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of a day, week or month."""

    date: date
    x: float
    width: float
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Tick:
    """A number on the y axis, and the position of its line."""

    value: int
    y: float


@dataclass(frozen=True, slots=True)
class Plot:
    """A stacked bar for each day, week or month; of a few, the dates are shown."""

    bars: list[Bar]
    ticks: list[Tick]
    every: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM


def plot_of(buckets: list[Bucket], kinds: tuple[str, ...]) -> Plot:
    """Stacked counts, by the names of figures; the first kind is at the bottom."""
    # Decisions that no registration preceded, as after a repair by hand, can make a count negative.
    days = [(bucket.start, {kind: max(0, getattr(bucket.figures, kind)) for kind in kinds}) for bucket in buckets]
    top = round_up(max((sum(counts.values()) for _, counts in days), default=0))
    scale = (HEIGHT - BOTTOM - 8) / top
    step = (WIDTH - LEFT) / max(len(days), 1)
    gap = min(GAP, step / 3)
    bars = []
    for index, (day, counts) in enumerate(days):
        y = float(HEIGHT - BOTTOM)
        parts = []
        for kind, count in counts.items():
            y -= count * scale
            parts.append(Part(kind, round(y, 1), round(count * scale, 1)))
        bars.append(Bar(day, round(LEFT + index * step + gap / 2, 1), round(step - gap, 1), parts))
    ticks = [Tick(value, round(HEIGHT - BOTTOM - value * scale, 1)) for value in range(0, top + 1, top // TICKS)]
    return Plot(bars, ticks, every=max(1, ceil(len(days) / DATES)))


def round_up(highest: int) -> int:
    """The next round number, not below `highest`, that is divisible by TICKS: 3, 6, 9, 12, 15, 30, 60, 90, 120 …"""
    if highest <= TICKS:
        return TICKS
    power = 10 ** int(log10(highest))
    for unit in (power // 10 or 1, power):
        for factor in (3, 6, 9, 12, 15, 30, 60, 90):
            if factor * unit >= highest:
                return int(factor * unit)
    return TICKS * ceil(highest / TICKS)


def share(value: int, highest: int) -> float:
    """The length of a bar as a percentage of the longest."""
    return round(100 * value / highest, 2) if highest else 0.0
