"""What the fields of one request read: each kind of thing with one statement, however many fields need it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader

from provider_registration.approvals.service import ApprovalService
from provider_registration.auth.models import Caller
from provider_registration.candidates.service import CandidateService
from provider_registration.errors import ServiceError
from provider_registration.events.models import EventPage, EventsWanted
from provider_registration.events.schemas import EventListResponse
from provider_registration.events.service import EventService
from provider_registration.graphql_api.side_loop import on_loop
from provider_registration.similar.keys import Facts
from provider_registration.similar.models import SimilarCandidate
from provider_registration.similar.schemas import SimilarResponse
from provider_registration.similar.service import SimilarService
from provider_registration.statistics.service import StatisticsService

MAX_READING = 3  # reads of one request at the same time, so that others find a free connection

Result = TypeVar("Result")
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sources:
    """The services that are read."""

    candidates: CandidateService
    events: EventService
    similar: SimilarService
    approvals: ApprovalService
    statistics: StatisticsService


class Loading:
    """The caller of one request, and its loaders. The services belong to the main event loop."""

    def __init__(self, sources: Sources, caller: Caller, main_loop: asyncio.AbstractEventLoop) -> None:
        self.sources = sources
        self.caller = caller
        self._main_loop = main_loop
        self._turns = asyncio.Semaphore(MAX_READING)
        self.candidate: DataLoader[UUID, Record] = DataLoader(self._candidates)
        self.events: DataLoader[EventsWanted, Record] = DataLoader(self._events)
        self.similar: DataLoader[tuple[UUID, Facts], list[Record]] = DataLoader(self._similar)

    async def read(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await a call of a service."""
        async with self._turns:
            return await on_loop(self._main_loop, work)

    async def _candidates(self, candidate_ids: list[UUID]) -> list[Record | ServiceError]:
        found = await self.read(self._get_all(candidate_ids))
        return [each if isinstance(each, ServiceError) else json.loads(each.json) for each in found]

    async def _get_all(self, candidate_ids: list[UUID]) -> list[Any]:
        """The records, or why there is none: called at once, they share a statement."""
        found = await asyncio.gather(*map(self.sources.candidates.get, candidate_ids), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, ServiceError):
                raise each
        return found

    async def _events(self, wanted: list[EventsWanted]) -> list[Record]:
        pages: Sequence[EventPage] = await self.read(self.sources.events.of_candidates(wanted))
        with_errors = self.caller.may_audit
        return [EventListResponse.of(page, with_errors=with_errors).model_dump(mode="json") for page in pages]

    async def _similar(self, companies: list[tuple[UUID, Facts]]) -> list[list[Record]]:
        found: Sequence[Sequence[SimilarCandidate]] = await self.read(self.sources.similar.similar_to_each(companies))
        return [[SimilarResponse.model_validate(one).model_dump(mode="json") for one in each] for each in found]


def company_of(record: Record) -> tuple[UUID, Facts]:
    """The company of a record, to find similar ones."""
    return UUID(record["candidate_id"]), Facts(record["company_name"], record["contact_email"], record["phone"])
