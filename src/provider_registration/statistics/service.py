"""Summing up, at most once in a while."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status
from provider_registration.db.batching import Sharer
from provider_registration.db.database import Database
from provider_registration.statistics import queries
from provider_registration.statistics.models import Day, Overview, ProductOffer

DAYS = 30
KEPT_SECONDS = 60.0  # that an overview is shown again before it is made anew
MOST = 10_000  # decisions and happenings looked at


class StatisticsService:
    """Makes overviews. However many people look, the database sums up once in KEPT_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: Overview | None = None
        self._made_at = float("-inf")
        self._overviews = Sharer(self._keep, time_limit=database.time_limit)

    async def overview(self) -> Overview:
        """How things stood at most KEPT_SECONDS ago."""
        return await self._overviews.do(None)

    async def _keep(self, _asked: None) -> Overview:
        if self._kept is None or time.monotonic() - self._made_at > KEPT_SECONDS:
            self._kept = await self._make()
            self._made_at = time.monotonic()
        return self._kept

    async def _make(self) -> Overview:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        parameters = {"since": today - timedelta(days=DAYS - 1), "most": MOST}
        async with self._database.transaction() as session:
            sums = {
                (row.product, row.status): (row.candidates, row.tons_per_day)
                for row in await session.execute(queries.SUM_COUNTS)
            }
            oldest: datetime | None = await session.scalar(queries.OLDEST_PENDING)
            days = await self._days(session, today)
            times = (await session.execute(queries.TIME_TO_DECISION, parameters)).one()
            outcomes = await session.execute(queries.APPROVAL_OUTCOMES, parameters)
            approvals = {ApprovalEvent(row.event): row.happened for row in outcomes}
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
        rows = await session.execute(queries.REGISTRATIONS_A_DAY, parameters)
        registered = {row.day: row.registered for row in rows}
        rows = await session.execute(queries.DECISIONS_A_DAY, parameters)
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
