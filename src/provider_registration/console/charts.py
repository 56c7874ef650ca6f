"""Plots as geometry: where the bars of a plot stand. Templates draw them as SVG, beside the same numbers in a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from math import ceil, log10

WIDTH, HEIGHT = 640, 180  # of the plot's own units; it scales with the page
LEFT, BOTTOM = 60, 26  # room for the numbers and the days
GAP = 3  # between bars
TICKS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """One coloured part of a bar; `kind` names its colour."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What happened on a day."""

    date: date
    x: float
    width: float
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Tick:
    """A number at the side, and where its line is."""

    value: int
    y: float


@dataclass(frozen=True, slots=True)
class DailyPlot:
    """Bars of some days, each of parts that stand on one another."""

    bars: list[Bar]
    ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM


def daily_plot(days: list[tuple[date, dict[str, int]]]) -> DailyPlot:
    """A plot of what happened each day, by kind; the first kind stands at the bottom."""
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
    """A round number not below the highest that parts well: 3, 6, 9, 12, 15, 30, 60, 90, 120, 150, 300 …"""
    if highest <= TICKS:
        return TICKS
    power = 10 ** int(log10(highest))
    for unit in (power // 10 or 1, power):
        for factor in (3, 6, 9, 12, 15, 30, 60, 90):
            if factor * unit >= highest:
                return int(factor * unit)
    return TICKS * ceil(highest / TICKS)


def share(value: int, highest: int) -> float:
    """How long a bar is, in hundredths of the longest."""
    return round(100 * value / highest, 2) if highest else 0.0
