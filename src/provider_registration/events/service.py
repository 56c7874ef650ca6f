"""Reads the log of events."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.db.database import Database
from provider_registration.events import queries
from provider_registration.events.models import Event, EventPage, EventsWanted, EventType


class EventService:
    """Reads what happened to candidates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_candidate(self, candidate_id: UUID, *, limit: int, before: int | None = None) -> EventPage:
        """At most `limit` events of a candidate, newest first, from the one before the event with the ID `before`.

        Raises:
            CandidateNotFound: there is none.
        """
        parameters = {"candidate_id": candidate_id, "before": before, "limit": limit + 1, "types": list(EventType)}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_EVENTS, parameters)).mappings().all()
        if not rows:
            raise CandidateNotFound(candidate_id)
        return _page([Event.from_row(row) for row in rows if row["id"] is not None], limit)

    async def of_candidates(self, wanted: Sequence[EventsWanted]) -> list[EventPage]:
        """The same for many, with one statement; of a candidate that does not exist, an empty page."""
        parameters = {
            "candidate_ids": [each.candidate_id for each in wanted],
            "befores": [each.before for each in wanted],
            "limits": [each.limit + 1 for each in wanted],
            "types": list(EventType),
        }
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_EVENTS_OF_MANY, parameters)).mappings().all()
        events: list[list[Event]] = [[] for _ in wanted]
        for row in rows:
            events[row["number"] - 1].append(Event.from_row(row))
        return [_page(found, each.limit) for each, found in zip(wanted, events, strict=True)]


def _page(events: list[Event], limit: int) -> EventPage:
    """The first `limit` events, of one more if there is a next page."""
    return EventPage(events[:limit], events[limit - 1].id if len(events) > limit else None)
