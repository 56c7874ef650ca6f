"""Reads the statistics of a period, and the figures of now."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status
from provider_registration.db.batching import Sharer
from provider_registration.db.database import Database
from provider_registration.statistics import queries
from provider_registration.statistics.models import (
    BUCKETS_PER_DOUBLING,
    OTHERS,
    OUTCOMES,
    SERVICE,
    Bucket,
    Figures,
    Grouping,
    Overview,
    Period,
    ProductOffer,
    Reason,
    Series,
    Statistics,
    TimeToDecision,
)

CACHE_SECONDS = 60.0  # for which pages reuse what was read
MAX_CACHED = 32  # periods
MAX_UNCOUNTED = 2000  # events that are counted when reading
MAX_GROUPS = 20  # people; the others are added up

DECISIONS = ("approved", "rejected")
EVERYTHING = ("registered", *DECISIONS, *(f"outcome.{outcome}" for outcome in OUTCOMES))
MEASURES = {
    None: EVERYTHING,
    Grouping.PRODUCT: EVERYTHING,
    Grouping.DECIDED_BY: DECISIONS,
    Grouping.REASON: ("rejected",),
}
GROUPS: dict[Grouping | None, tuple[str, ...]] = {  # in their order, also those without figures
    None: ("",),
    Grouping.PRODUCT: tuple(Product),
    Grouping.REASON: tuple(Reason),
}


class StatisticsService:
    """Reads statistics. For pages, at most once in CACHE_SECONDS for any number of users."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cached: OrderedDict[Period | None, tuple[float, Any]] = OrderedDict()
        self._shared: Sharer[Period | None, Any] = Sharer(self._refresh, time_limit=database.time_limit)

    async def overview(self) -> Overview:
        """The figures of now, at most CACHE_SECONDS old."""
        found: Overview = await self._shared.do(None)
        return found

    async def recent(self, period: Period) -> Statistics:
        """The statistics of a period, at most CACHE_SECONDS old."""
        found: Statistics = await self._shared.do(period)
        return found

    async def read(self, period: Period) -> Statistics:
        """The statistics of a period, with everything that is committed.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond.
        """
        parameters = {
            "dimension": period.by or "",
            "measures": list(MEASURES[period.by]),
            "first": period.first,
            "last": period.last,
            "interval": period.interval,
            "limit": MAX_UNCOUNTED,
            "max_values": MAX_GROUPS,
        }
        has_backlog = period.by in (None, Grouping.PRODUCT)
        async with self._database.transaction() as session:
            await session.execute(queries.ONE_SNAPSHOT)
            now = datetime.now(UTC)
            counts = (await session.execute(queries.READ_COUNTS, parameters)).mappings().all()
            changes = await session.execute(queries.READ_BACKLOG, parameters) if has_backlog else ()
            backlog = {(row.value, row.start): row.change for row in changes}
            ends = [min(end, now.date()) for end in _ends(period)]
            oldest = await _oldest(session, ends) if period.by is None else {}
            names = await _names(session, counts) if period.by is Grouping.DECIDED_BY else {}
            is_complete = not await session.scalar(queries.HAS_MORE_UNCOUNTED, {"limit": MAX_UNCOUNTED})
        found = _Found(period, now, {(row["value"], row["start"]): row for row in counts}, backlog, oldest, names)
        series = await asyncio.to_thread(found.series)
        return Statistics(period, series, is_complete)

    async def _refresh(self, period: Period | None) -> Statistics | Overview:
        now = time.monotonic()
        if period in self._cached and now - self._cached[period][0] <= CACHE_SECONDS:
            return self._cached[period][1]  # type: ignore[no-any-return]
        found = await (self._compute() if period is None else self.read(period))
        self._cached[period] = (now, found)
        self._cached.move_to_end(period)
        if len(self._cached) > MAX_CACHED:
            self._cached.popitem(last=False)
        return found

    async def _compute(self) -> Overview:
        async with self._database.transaction() as session:
            sums = {
                (row.product, row.status): (row.candidates, row.tons_per_day)
                for row in await session.execute(queries.SUM_COUNTS)
            }
            oldest: datetime | None = await session.scalar(queries.OLDEST_PENDING)
        nothing = (0, 0)
        return Overview(
            candidates={status: sums.get(("", status), nothing)[0] for status in Status},
            oldest_pending=oldest,
            offers=[
                ProductOffer(
                    product,
                    {status: sums.get((product, status), nothing)[0] for status in Status},
                    sums.get((product, Status.APPROVED), nothing)[1],
                )
                for product in Product
            ],
            tons_per_day=sums.get(("", Status.APPROVED), nothing)[1],
        )


async def _oldest(session: AsyncSession, ends: list[date]) -> dict[date, datetime]:
    """When the oldest candidate registered that was pending at the end of each day."""
    parameters = {"days": ends, "limit": MAX_UNCOUNTED}
    decided = {row.day: row.oldest for row in await session.execute(queries.READ_OLDEST, parameters)}
    pending: datetime | None = await session.scalar(queries.OLDEST_PENDING)
    if pending is not None:
        for end in ends:
            if pending.astimezone(UTC).date() <= end:
                decided[end] = min(pending, decided.get(end, pending))
    return decided


async def _names(session: AsyncSession, counts: Sequence[RowMapping]) -> dict[str, str]:
    """What the users and API keys are called."""
    ids = list({row["value"] for row in counts} - {SERVICE, OTHERS})
    return {row.id: row.name for row in await session.execute(queries.FIND_NAMES, {"ids": ids})}


def _ends(period: Period) -> list[date]:
    """The last day of each bucket."""
    starts = period.interval.starts(period.first, period.last)
    return [start - timedelta(days=1) for start in starts[1:]] + [period.last]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the statements returned, by value and start of the bucket."""

    period: Period
    now: datetime
    counts: Mapping[tuple[str, date | None], RowMapping]
    changes: Mapping[tuple[str, date | None], int]
    oldest: Mapping[date, datetime]
    names: Mapping[str, str]

    def series(self) -> list[Series]:
        """One for each group: the known ones in their order, people by the number of their decisions."""
        by = self.period.by
        groups = GROUPS[by] if by in GROUPS else self._people()
        return [self._one(group) for group in groups]

    def _people(self) -> list[str]:
        decided = {value: row["approved"] + row["rejected"] for (value, start), row in self.counts.items() if not start}
        return sorted(decided, key=lambda value: (value == OTHERS, -decided[value], value))

    def _one(self, group: str) -> Series:
        starts, ends = self.period.interval.starts(self.period.first, self.period.last), _ends(self.period)
        pending, buckets = self.changes.get((group, None), 0), []
        for start, end in zip(starts, ends, strict=True):
            pending += self.changes.get((group, start), 0)
            buckets.append(Bucket(start, self._figures(group, start, end, pending)))
        totals = self._figures(group, None, ends[-1], pending)
        return Series(group or None, self.names.get(group), totals, buckets)

    def _figures(self, group: str, start: date | None, end: date, pending: int) -> Figures:
        row = self.counts.get((group, start))
        measures = MEASURES[self.period.by]
        has_all = "registered" in measures
        return Figures(
            registered=_count(row, "registered") if has_all else None,
            approved=_count(row, "approved") if "approved" in measures else None,
            rejected=_count(row, "rejected"),
            time_to_decision=TimeToDecision(*(_seconds(row[p]) for p in ("p50", "p90", "p95")))
            if row
            else TimeToDecision(),
            approvals={outcome: _count(row, f"outcome_{outcome}") for outcome in OUTCOMES} if has_all else None,
            pending=pending if has_all else None,
            oldest_age=self._age(end),
        )

    def _age(self, end: date) -> float | None:
        """The age of the oldest candidate that was pending at the end of this day, or is now."""
        oldest = self.oldest.get(min(end, self.now.date()))
        if oldest is None:
            return None
        midnight = datetime.combine(end + timedelta(days=1), datetime.min.time(), UTC)
        return max(0.0, (min(midnight, self.now) - oldest).total_seconds())


def _count(row: RowMapping | None, name: str) -> int:
    return int(row[name]) if row else 0


def _seconds(bucket: int | None) -> float | None:
    """The middle of a bucket of times, which begin at 2 ** (bucket / BUCKETS_PER_DOUBLING) seconds."""
    return None if bucket is None else float(2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING))
