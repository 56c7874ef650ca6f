"""Reads the events of all candidates in the order of their positions."""

from __future__ import annotations

from collections.abc import Sequence

from provider_registration.db.database import Database
from provider_registration.events import queries
from provider_registration.events.errors import CursorExpired, CursorUnknown
from provider_registration.events.models import EventType, FeedEvent, FeedPage

SCANNED = 5000  # positions read for one page, whether their types match or not


class Feed:
    """The feed of events: each once, in an order that does not change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, after: int | None, *, limit: int, types: Sequence[EventType] = tuple(EventType)) -> FeedPage:
        """At most `limit` events of these types after the position `after`; None: after the last one that was deleted.

        Raises:
            CursorExpired: events after `after` were deleted.
            CursorUnknown: `after` is no position yet; it comes from another copy of the database.
        """
        parameters = {"after": after, "limit": limit, "types": list(types), "scan": SCANNED}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.READ_FEED, parameters)).mappings().all()
        if not rows:  # older events are being numbered
            return FeedPage([], after or 0)
        last, pruned, scanned_to = rows[0]["last_position"], rows[0]["pruned_position"], rows[0]["scanned_to"]
        if after is not None and after > last:
            raise CursorUnknown
        if after is not None and after < pruned:
            raise CursorExpired
        events = [FeedEvent.from_row(row) for row in rows if row["position"] is not None]
        return FeedPage(events, events[-1].position if len(events) == limit else scanned_to or after or pruned)

    async def last_position(self) -> int:
        """The position of the newest event."""
        async with self._database.statement() as session:
            return int(await session.scalar(queries.FIND_LAST_POSITION) or 0)
