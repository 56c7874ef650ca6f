"""Computes the overview at most once a minute."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.approvals.models import EVENT_OF_TYPE
from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status
from provider_registration.db.batching import Sharer
from provider_registration.db.database import Database
from provider_registration.events.models import EventType
from provider_registration.statistics import queries
from provider_registration.statistics.models import Day, Overview, ProductOffer

DAYS = 30
CACHE_SECONDS = 60.0  # for which an overview is reused
MAX_ROWS = 10_000  # decisions and events that are read


class StatisticsService:
    """Computes overviews, at most once in CACHE_SECONDS for any number of users."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cached: Overview | None = None
        self._computed_at = float("-inf")
        self._overviews = Sharer(self._refresh, time_limit=database.time_limit)

    async def overview(self) -> Overview:
        """The overview, at most CACHE_SECONDS old."""
        return await self._overviews.do(None)

    async def _refresh(self, _item: None) -> Overview:
        if self._cached is None or time.monotonic() - self._computed_at > CACHE_SECONDS:
            self._cached = await self._compute()
            self._computed_at = time.monotonic()
        return self._cached

    async def _compute(self) -> Overview:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        parameters = {"since": today - timedelta(days=DAYS - 1), "max_rows": MAX_ROWS}
        async with self._database.transaction() as session:
            sums = {
                (row.product, row.status): (row.candidates, row.tons_per_day)
                for row in await session.execute(queries.SUM_COUNTS)
            }
            oldest: datetime | None = await session.scalar(queries.OLDEST_PENDING)
            days = await self._days(session, today)
            times = (await session.execute(queries.TIME_TO_DECISION, parameters)).one()
            outcomes = await session.execute(queries.APPROVAL_OUTCOMES, {**parameters, "types": list(EVENT_OF_TYPE)})
            approvals = {EVENT_OF_TYPE[EventType(row.type)]: row.happened for row in outcomes}
        nothing = (0, 0)
        return Overview(
            candidates={status: sums.get(("", status), nothing)[0] for status in Status},
            oldest_pending=oldest,
            days=days,
            median_seconds=times.median_seconds,
            slow_seconds=times.slow_seconds,
            approvals=approvals,
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

    async def _days(self, session: AsyncSession, today: datetime) -> list[Day]:
        parameters = {"since": today - timedelta(days=DAYS - 1)}
        rows = await session.execute(queries.REGISTRATIONS_PER_DAY, parameters)
        registered = {row.day: row.registered for row in rows}
        rows = await session.execute(queries.DECISIONS_PER_DAY, parameters)
        decided = {(row.day, row.status): row.decided for row in rows}
        dates = [(today - timedelta(days=ago)).date() for ago in reversed(range(DAYS))]
        return [
            Day(
                date,
                registered.get(date, 0),
                decided.get((date, Status.APPROVED), 0),
                decided.get((date, Status.REJECTED), 0),
            )
            for date in dates
        ]
