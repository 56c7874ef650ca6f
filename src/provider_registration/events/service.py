"""Reads the log of events."""

from __future__ import annotations

from uuid import UUID

from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.db.database import Database
from provider_registration.events import queries
from provider_registration.events.models import Event, EventPage, EventType


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
        events = [Event.from_row(row) for row in rows if row["id"] is not None]
        return EventPage(events[:limit], events[limit - 1].id if len(events) > limit else None)
