"""Reads both logs as one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

from provider_registration.activity import queries
from provider_registration.activity.models import Activity, ActivityFilter, ActivityPage
from provider_registration.audit.models import AuditType
from provider_registration.db.database import Database
from provider_registration.events.models import EventType
from provider_registration.web.pagination import MAX_ID, NEWEST_END, Position

MAX_PAGE = 500  # events
MAX_ACTORS = 1000
OLDEST = datetime.min.replace(tzinfo=UTC)


class ActivityService:
    """Reads who did what, newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, which: ActivityFilter, *, limit: int, before: Position | None = None) -> ActivityPage:
        """At most `limit` events before a position."""
        query = queries.PAGE_OF_NEWEST
        if which.actor is not None:
            query = queries.PAGE_OF_ACTOR
        elif which.type not in (None, EventType.REGISTERED):
            query = queries.PAGE_OF_TYPES
        before = before or NEWEST_END
        if which.until is not None and which.until <= before.at:
            before = Position(
                which.until, UUID(int=0)
            )  # one upper limit: with two, PostgreSQL may start at the wrong one
        parameters = {
            "actor": which.actor,
            "audit_types": [each for each in AuditType if which.type in (None, each)],
            "candidate_types": [each for each in EventType if which.type in (None, each)],
            "since": which.since or OLDEST,
            "before": before.at,
            "before_id": min((before.id.int + 1) // 2, MAX_ID),
            "before_audit_id": min(before.id.int // 2, MAX_ID),
            "limit": limit + 1,
        }
        async with self._database.statement() as session:
            rows = (await session.execute(query, parameters)).mappings().all()
        events = [Activity.from_row(row) for row in rows[:limit]]
        return ActivityPage(events, events[-1].position if len(rows) > limit else None)

    async def all(self, which: ActivityFilter) -> AsyncIterator[Activity]:
        """Every event, page by page; no connection is held while the caller processes a page."""
        before: Position | None = None
        while True:
            page = await self.page(which, limit=MAX_PAGE, before=before)
            for event in page.events:
                yield event
            before = page.next
            if before is None:
                return

    async def actors(self) -> dict[UUID, str]:
        """The e-mail addresses of users and the names of API keys that were used, MAX_ACTORS at most of each."""
        async with self._database.statement() as session:
            rows = await session.execute(queries.LIST_ACTORS, {"limit": MAX_ACTORS})
            return {row.id: row.name for row in rows}
