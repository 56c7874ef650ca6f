"""The plots of the overview page."""

from __future__ import annotations

from datetime import date

from provider_registration.console.overview import plot_of
from provider_registration.statistics.models import Bucket, Figures, TimeToDecision


def bucket(day, pending):
    figures = Figures(
        registered=0,
        approved=0,
        rejected=0,
        time_to_decision=TimeToDecision(None, None, None),
        approvals={},
        pending=pending,
        oldest_age=None,
    )
    return Bucket(date(2026, 1, day), figures)


def test_a_negative_count_is_drawn_as_none():
    plot = plot_of([bucket(1, -1), bucket(2, 3)], ("pending",))

    [nothing], [three] = [bar.parts for bar in plot.bars]
    assert (nothing.height, nothing.y) == (0, plot.ticks[0].y)
    assert three.height > 0
