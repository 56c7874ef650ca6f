"""The overview page: figures and plots."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from math import ceil, log10

from fastapi import APIRouter
from starlette.responses import Response

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.console.layout import HOME, LayoutDep
from provider_registration.statistics.dependencies import StatisticsServiceDep
from provider_registration.statistics.service import DAYS

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

# A plot holds coordinates. The template draws it as SVG, with the same numbers in a table.
WIDTH, HEIGHT = 640, 180  # in the plot's own units; it scales with the page
LEFT, BOTTOM = 60, 26  # room for the numbers and the days
GAP = 3  # between bars
TICKS = 3


@router.get(HOME)
async def overview(statistics: StatisticsServiceDep, layout: LayoutDep) -> Response:
    """Show pending candidates, decisions and approved capacity."""
    found = await statistics.overview()
    return layout.page(
        "overview.html",
        overview=found,
        day_count=DAYS,
        registrations=daily_plot([(day.date, {"registered": day.registered}) for day in found.days]),
        decisions=daily_plot([(day.date, {"approved": day.approved, "rejected": day.rejected}) for day in found.days]),
        outcomes=[(*words, found.approvals.get(event, 0)) for event, words in OUTCOMES.items()],
        max_outcomes=max((found.approvals.get(event, 0) for event in OUTCOMES), default=0),
        max_tons=max(offer.tons_per_day for offer in found.offers),
        share=share,
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One coloured part of a bar; `kind` names its colour."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of one day."""

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
class DailyPlot:
    """A stacked bar for each day."""

    bars: list[Bar]
    ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM


def daily_plot(days: list[tuple[date, dict[str, int]]]) -> DailyPlot:
    """Stacked counts for each day, by kind; the first kind is at the bottom."""
    top = round_up(max((sum(counts.values()) for _, counts in days), default=0))
    scale = (HEIGHT - BOTTOM - 8) / top
    step = (WIDTH - LEFT) / max(len(days), 1)
    bars = []
    for index, (day, counts) in enumerate(days):
        y = float(HEIGHT - BOTTOM)
        parts = []
        for kind, count in counts.items():
            y -= count * scale
            parts.append(Part(kind, round(y, 1), round(count * scale, 1)))
        bars.append(Bar(day, round(LEFT + index * step + GAP / 2, 1), round(step - GAP, 1), parts))
    ticks = [Tick(value, round(HEIGHT - BOTTOM - value * scale, 1)) for value in range(0, top + 1, top // TICKS)]
    return DailyPlot(bars, ticks)


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
