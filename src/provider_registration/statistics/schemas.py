"""Request parameters and response bodies of the statistics."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from provider_registration.statistics.models import (
    FIRST_DAY,
    LAST_DAY,
    OUTCOMES,
    Figures,
    Grouping,
    Interval,
    Period,
    Statistics,
)

DEFAULT_DAYS = 30
FULL_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _is_full_date(value: object) -> object:
    if not isinstance(value, str) or not FULL_DATE.fullmatch(value):  # pydantic would read numbers as Unix times
        raise PydanticCustomError("date", "Input should be a date, such as 2026-03-14")
    return value


def _in_range(value: date) -> date:
    if not FIRST_DAY <= value <= LAST_DAY:
        raise PydanticCustomError(
            "date_range", "Input should be from {first} to {last}", {"first": str(FIRST_DAY), "last": str(LAST_DAY)}
        )
    return value


Day = Annotated[date, BeforeValidator(_is_full_date), AfterValidator(_in_range)]


class StatisticsQuery(BaseModel):
    """Which days, in which buckets and groups."""

    model_config = ConfigDict(extra="forbid")

    first: Day | None = Field(None, alias="from", description="First day, in UTC; default: 29 days before `to`")
    last: Day | None = Field(None, alias="to", description="Last day, in UTC, included; default: today")
    interval: Interval = Field(
        Interval.DAY, description="Length of a bucket: at most 366 days, or 1,830 in weeks (from Monday) or months"
    )
    by: Grouping | None = Field(
        None, description="Group by product, by who decided (auditors and admins), or by reason"
    )

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        period = self.to_period()
        if period.first > period.last:
            raise PydanticCustomError("period", "`from` should not be after `to`")
        if (period.last - period.first).days >= period.interval.max_days:
            raise PydanticCustomError(
                "period",
                "The period should have at most {days} days for this interval",
                {"days": period.interval.max_days},
            )
        return self

    def to_period(self) -> Period:
        """The period."""
        last = self.last or datetime.now(UTC).date()
        return Period(self.first or last - timedelta(days=DEFAULT_DAYS - 1), last, self.interval, self.by)


class TimeToDecisionResponse(BaseModel):
    """How long candidates waited for their decision."""

    p50_seconds: float = Field(description="The median, exact to 2.2%")
    p90_seconds: float
    p95_seconds: float


class BacklogResponse(BaseModel):
    """Candidates that were pending at the end of the bucket, or are now if it has not ended."""

    pending: int
    oldest_age_seconds: float | None = Field(
        description="How long the oldest one had waited then; null if none was pending, and with `by`"
    )


class ApprovalsResponse(BaseModel):
    """Outcomes of approvals, as in `GET /candidates/{candidate_id}/approval/events`."""

    approved: int
    linked: int
    failed: int
    in_doubt: int
    let_go: int
    orphaned: int


class FiguresResponse(BaseModel):
    """What happened."""

    registered: int | None = Field(description="Null with `by=decided_by` and `by=reason`")
    approved: int | None = Field(description="Null with `by=reason`")
    rejected: int = Field(description="Also by erasure while pending")
    time_to_decision: TimeToDecisionResponse | None = Field(description="Null without decisions")
    approvals: ApprovalsResponse | None = Field(description="Null with `by=decided_by` and `by=reason`")
    backlog: BacklogResponse | None = Field(description="Null with `by=decided_by` and `by=reason`")


class BucketResponse(FiguresResponse):
    """The figures of a day, week or month, as far as it is between `from` and `to`."""

    start: date


class SeriesResponse(BaseModel):
    """The figures of a group, or of everything."""

    group: str | None = Field(
        description="A product, the ID of a user or API key, or a reason's code; null without `by`"
    )
    name: str | None = Field(description="The e-mail address of a user, or the name of an API key; null for others")
    totals: FiguresResponse
    buckets: list[BucketResponse]


class StatisticsResponse(BaseModel):
    """Statistics of the days from `from` to `to`, both included, in UTC."""

    first: date = Field(alias="from")
    last: date = Field(alias="to")
    interval: Interval
    by: Grouping | None
    is_complete: bool = Field(description="False while more than 2,000 of the newest events are not counted yet")
    series: list[SeriesResponse]


def statistics_body(found: Statistics) -> dict[str, Any]:
    """The body of StatisticsResponse: made without models, because a year of all people has thousands of buckets."""
    period = found.period
    return {
        "from": period.first.isoformat(),
        "to": period.last.isoformat(),
        "interval": period.interval,
        "by": period.by,
        "is_complete": found.is_complete,
        "series": [
            {
                "group": series.group,
                "name": series.name,
                "totals": _figures(series.totals),
                "buckets": [
                    {"start": bucket.start.isoformat(), **_figures(bucket.figures)} for bucket in series.buckets
                ],
            }
            for series in found.series
        ],
    }


def _figures(figures: Figures) -> dict[str, Any]:
    time = figures.time_to_decision
    percentiles = {"p50_seconds": time.p50, "p90_seconds": time.p90, "p95_seconds": time.p95}
    return {
        "registered": figures.registered,
        "approved": figures.approved,
        "rejected": figures.rejected,
        "time_to_decision": {name: round(value, 1) for name, value in percentiles.items() if value is not None} or None,
        "approvals": figures.approvals and {str(outcome): figures.approvals[outcome] for outcome in OUTCOMES},
        "backlog": None
        if figures.pending is None
        else {
            "pending": figures.pending,
            "oldest_age_seconds": figures.oldest_age and round(figures.oldest_age, 1),
        },
    }


_EXAMPLE_FIGURES: dict[str, Any] = {
    "registered": 12,
    "approved": 7,
    "rejected": 2,
    "time_to_decision": {"p50_seconds": 52738.6, "p90_seconds": 177556.1, "p95_seconds": 211151.1},
    "approvals": {"approved": 6, "linked": 1, "failed": 1, "in_doubt": 0, "let_go": 0, "orphaned": 0},
    "backlog": {"pending": 31, "oldest_age_seconds": 345600.0},
}
EXAMPLE_STATISTICS: dict[str, Any] = {
    "from": "2026-03-09",
    "to": "2026-03-15",
    "interval": "week",
    "by": None,
    "is_complete": True,
    "series": [
        {
            "group": None,
            "name": None,
            "totals": _EXAMPLE_FIGURES,
            "buckets": [{"start": "2026-03-09", **_EXAMPLE_FIGURES}],
        }
    ],
}
