"""Makes jobs of decisions about many candidates."""

from __future__ import annotations

from uuid import UUID

from provider_registration.audit.models import Actor
from provider_registration.bulk.models import BulkDecision, Matching
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.db.database import Database
from provider_registration.idempotency.models import Key
from provider_registration.idempotency.service import keep, take
from provider_registration.jobs.errors import JobExists
from provider_registration.jobs.models import NewItem, NewJob
from provider_registration.jobs.service import JobService


class BulkService:
    """Starts jobs that decide many candidates."""

    def __init__(self, database: Database, jobs: JobService, browsing: BrowsingService) -> None:
        self._database = database
        self._jobs = jobs
        self._browsing = browsing

    async def start(self, wanted: BulkDecision, *, actor: Actor, key: Key | None = None) -> UUID:
        """Create the job of a decision, and return its ID: that of the earlier one if `key` or `wanted.job_id` repeats.

        The candidates and versions of a selection are those of now.

        Raises:
            KeyInUse, KeyReused: the request with this key is under way, or was another one.
            TooManyJobs: too many are unfinished.
        """
        items, is_partial = await self._items(wanted)
        new = NewJob(
            job_id=wanted.job_id,
            kind=wanted.decision.kind,
            actor=actor,
            items=items,
            parameters=wanted.parameters,
            is_partial=is_partial,
        )
        try:
            async with self._database.transaction() as session:
                if key and (kept := await take(session, key)):
                    return UUID((kept.answer or {})["job_id"])
                await self._jobs.create_in(session, new)
                if key:
                    await keep(session, key, {"job_id": str(new.job_id)})
        except JobExists:
            return new.job_id
        self._jobs.wake.set()
        return new.job_id

    async def _items(self, wanted: BulkDecision) -> tuple[list[NewItem], bool]:
        """The items of the job, and whether the selection had more. No connection is held between two pages."""
        if not isinstance(wanted.candidates, Matching):
            return list(wanted.candidates), False
        matching, items, after = wanted.candidates, list[NewItem](), None
        while len(items) <= matching.at_most:
            found = await self._browsing.versions(matching.selection, after=after)
            items += [NewItem(candidate_id, version) for candidate_id, version in found.versions]
            after = found.next
            if after is None:
                break
        return items[: matching.at_most], len(items) > matching.at_most
