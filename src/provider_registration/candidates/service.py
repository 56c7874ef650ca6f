"""The operations on candidates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.audit.models import Actor
from provider_registration.candidates import queries
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.company import Company
from provider_registration.candidates.deciding import FINAL_OBSTACLES, final_answer, refusal_of
from provider_registration.candidates.errors import (
    CandidateNotFound,
    EmailTaken,
)
from provider_registration.candidates.keyed_registrations import KeyedRegistrations
from provider_registration.candidates.models import (
    Application,
    Candidate,
    CandidateRecord,
    Registered,
    Registration,
    Rejection,
    registrations_json,
)
from provider_registration.candidates.search import CandidatePage, Search
from provider_registration.candidates.selection import ListPosition, Selection
from provider_registration.candidates.status_secrets import hash_of_secret, new_status_secret
from provider_registration.db.batching import Batcher, Sharer
from provider_registration.db.database import NO_LOCK_TIMEOUT, Database, RowLocked
from provider_registration.db.reading import Reader
from provider_registration.errors import ServiceError
from provider_registration.failpoints import reach
from provider_registration.idempotency.models import Answer, Key
from provider_registration.idempotency.service import keep, take
from provider_registration.web.pagination import Page

FIRST_VERSION = 1  # of an undecided candidate
REJECTIONS = TypeAdapter(list[Rejection])
LOCKED = "locked"  # the obstacle while another transaction locks the candidate
REJECTED: Answer = {}  # kept for the key of a rejection: the candidate has the rest


class CandidateService:
    """Registers, lists, reads and rejects candidates; `browsing` reads them for the console."""

    def __init__(
        self, database: Database, reader: Reader, derive: Callable[[str], list[str]], *, creates_status_links: bool
    ) -> None:
        """`derive` makes a secret of a text under each server key, the current one first.

        `creates_status_links`: public pages are on, so each registration gets a status secret.
        """
        self._database = database
        self._reader = reader
        self.creates_status_links = creates_status_links
        self.browsing = BrowsingService(database)
        self._registrations = Batcher(
            self._register,
            time_limit=database.time_limit,
            key=lambda registration: registration.contact_email_canonical,
        )
        self._keyed_registrations = KeyedRegistrations(database, derive, creates_status_links=creates_status_links)
        self._reads = Batcher(self._read, time_limit=database.time_limit)
        self._search = Search(reader.read)
        self._lists = Sharer(self._list, time_limit=database.time_limit)
        self._rejections = Batcher(self._reject, time_limit=database.time_limit)

    async def register(
        self,
        company: Company,
        *,
        language: str | None = None,
        status_secret: str | None = None,
        idempotency_key: str | None = None,
    ) -> Registered:
        """Store a new candidate, or return what was registered with this idempotency key, as it was sent.

        Pass `status_secret` if one was already generated.

        Raises:
            EmailTaken: the e-mail address is already registered, in any spelling.
            RowLocked: another transaction has locked this address.
            KeyInUse, KeyReused: the idempotency key belongs to another request.
        """
        if idempotency_key is not None:
            return await self._keyed_registrations.register(company, idempotency_key, language=language)
        secret = status_secret or (new_status_secret() if self.creates_status_links else None)
        record = await self._registrations.do(Registration.of(company, secret, language))
        if record is None:
            raise EmailTaken
        return Registered(record, secret)

    async def _register(self, registrations: Sequence[Registration]) -> list[CandidateRecord | None]:
        parameters = {"registrations": registrations_json(registrations)}
        async with self._database.statement() as session:
            rows = await session.execute(queries.INSERT_CANDIDATES, parameters)
            added = {row.id: CandidateRecord.from_row(row) for row in rows}
        return [added.get(registration.candidate_id) for registration in registrations]

    async def register_in(
        self, session: AsyncSession, registrations: Sequence[Registration], *, actor: Actor, data: Mapping[str, object]
    ) -> set[UUID]:
        """Store companies for an actor in the caller's transaction, which ends soon; return the IDs of those added.

        The e-mail addresses of the others are already registered. `data`: what their events say.

        Raises:
            RowLocked: another transaction has locked an address.
        """
        parameters = {
            "registrations": registrations_json(registrations),
            "actor_kind": str(actor.kind),
            "actor_id": actor.id,
            "data": json.dumps(data),
        }
        return set(await session.scalars(queries.IMPORT_CANDIDATES, parameters))

    async def taken_addresses(self, session: AsyncSession, addresses: Sequence[str]) -> set[str]:
        """Which of some canonical e-mail addresses are registered."""
        return set(await session.scalars(queries.FIND_TAKEN, {"addresses": list(addresses)}))

    async def list_candidates(self, selection: Selection, page: Page[ListPosition]) -> CandidatePage:
        """One page of a selection, with the total."""
        return await self._lists.do((selection, page))

    async def _list(self, request: tuple[Selection, Page[ListPosition]]) -> CandidatePage:
        return await self._search.records(*request)

    async def get(self, candidate_id: UUID) -> CandidateRecord:
        """One candidate.

        Raises:
            CandidateNotFound: there is none.
        """
        record = await self._reads.do(candidate_id)
        if record is None:
            raise CandidateNotFound(candidate_id)
        return record

    async def _read(self, candidate_ids: Sequence[UUID]) -> list[CandidateRecord | None]:
        found = await self._reader.read(partial(_find, candidate_ids=candidate_ids))
        if self._reader.has_replica:
            # Decisions are final; other candidates may have been registered or decided since, by any process.
            decided = {id_: record for id_, record in found.items() if record.version > FIRST_VERSION}
            if rest := [id_ for id_ in candidate_ids if id_ not in decided]:
                found = decided | await self._reader.read_primary(partial(_find, candidate_ids=rest))
        return [found.get(candidate_id) for candidate_id in candidate_ids]

    async def find_application(self, status_secret: str) -> Application | None:
        """The application with this status secret, also one from an e-mail; None if it is unknown or was replaced."""
        parameters = {"status_secret_hash": hash_of_secret(status_secret)}
        async with self._database.statement() as session:
            row = (await session.execute(queries.FIND_APPLICATION, parameters)).mappings().one_or_none()
        return Application.from_row(row) if row else None

    async def replace_status_secret(self, candidate_id: UUID, *, actor: Actor) -> str:
        """Replace a candidate's status secret; the old link, and those in e-mails, stop working.

        Raises:
            CandidateNotFound: there is none, or its personal data was erased.
        """
        secret = new_status_secret()
        parameters = {
            "candidate_id": candidate_id,
            "status_secret_hash": hash_of_secret(secret),
            "actor_kind": str(actor.kind),
            "actor_id": actor.id,
        }
        async with self._database.statement() as session:
            if await session.scalar(queries.REPLACE_STATUS_SECRET, parameters) is None:
                raise CandidateNotFound(candidate_id)
        return secret

    async def add_status_link(self, candidate_id: UUID) -> str | None:
        """The secret of a new link to a candidate's status page, for an e-mail; the first and newest others still work.

        None if its personal data was erased.
        """
        secret = new_status_secret()
        parameters = {"candidate_id": candidate_id, "status_secret_hash": hash_of_secret(secret)}
        async with self._database.statement() as session:
            added = await session.scalar(queries.ADD_STATUS_LINK, parameters)
        return secret if added else None

    async def end_status_link(self, status_secret: str) -> None:
        """End a link that was made for an e-mail."""
        async with self._database.statement() as session:
            await session.execute(queries.END_STATUS_LINK, {"status_secret_hash": hash_of_secret(status_secret)})

    async def reject(
        self,
        candidate_id: UUID,
        *,
        actor: Actor,
        reason: str | None,
        expected: frozenset[int] | None = None,
        notify: bool = True,
        key: Key | None = None,
        job_id: UUID | None = None,
    ) -> Candidate:
        """Reject a pending candidate; `actor` is recorded. `notify`: the company gets an e-mail.

        `job_id`: the job that does it; its event names it.

        Raises:
            CandidateNotFound, CandidateNotPending, VersionMismatch: it cannot be decided.
            ApprovalInProgress, ApprovalUnfinished, ApprovalNeedsResolution: it has an unfinished approval.
            CandidateChanged: someone else changed it at the same time.
            KeyInUse, KeyReused: the idempotency key belongs to another request.
        """
        rejection = Rejection(candidate_id, reason, actor, expected, notify, job_id)
        if key is not None:
            return await self._reject_once(rejection, key)
        outcome = None
        with suppress(RowLocked):
            outcome = await self._rejections.do(rejection)
        if outcome is None:
            outcome = await self._reject_alone(rejection)
        if isinstance(outcome, Candidate):
            return outcome
        raise outcome

    async def final_refusals(self, versions: Mapping[UUID, int | None]) -> dict[UUID, ServiceError]:
        """Which of some decisions will be refused however often they are tried, and why.

        `versions`: of each candidate, the one that is expected; None: any.
        """
        parameters = {"candidate_ids": list(versions), "versions": list(versions.values())}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.FIND_OBSTACLES, parameters)).mappings().all()
        return {row["candidate_id"]: refusal_of(row) for row in rows if row["obstacle"] in FINAL_OBSTACLES}

    async def _reject(self, rejections: Sequence[Rejection]) -> list[Candidate | ServiceError | None]:
        """The outcome of each; None for those that are locked by others or repeated, which are retried one by one."""
        first = {rejection.candidate_id: rejection for rejection in reversed(rejections)}
        async with self._database.statement() as session:
            rows = await _reject_rows(session, list(first.values()))
        self._reader.note_decision()
        outcomes = {row["candidate_id"]: None if row["obstacle"] == LOCKED else _outcome(row) for row in rows}
        return [
            outcomes[rejection.candidate_id] if first[rejection.candidate_id] is rejection else None
            for rejection in rejections
        ]

    async def _reject_alone(self, rejection: Rejection) -> Candidate | ServiceError:
        """Wait for the candidate's lock, then reject."""
        async with self._database.transaction() as session:
            row = await _reject_locked(session, rejection)
        self._reader.note_decision()
        return _outcome(row)

    async def _reject_once(self, rejection: Rejection, key: Key) -> Candidate:
        """Reject alone, in the transaction that keeps the outcome for a key, or return what is kept."""
        candidate_id = rejection.candidate_id
        async with self._database.transaction() as session:
            if kept := await take(session, key):
                if kept.answer:
                    raise refusal_of({"candidate_id": candidate_id, **kept.answer}).as_replay()
                parameters = {"candidate_id": candidate_id}
                return Candidate.from_row((await session.execute(queries.FIND_CANDIDATE, parameters)).mappings().one())
            row = await _reject_locked(session, rejection)
            answer = REJECTED if row["id"] else final_answer(row)
            if answer is not None:
                await keep(session, key, answer, candidate_id=candidate_id)
            await reach("rejection.before-key-commit")
        await reach("rejection.after-key-commit")
        self._reader.note_decision()
        outcome = _outcome(row)
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome


async def _reject_locked(session: AsyncSession, rejection: Rejection) -> RowMapping:
    await session.execute(queries.LOCK_CANDIDATES, {"candidate_ids": [rejection.candidate_id]})
    [row] = await _reject_rows(session, [rejection], lock_timeout=NO_LOCK_TIMEOUT)
    return row


async def _reject_rows(session: AsyncSession, rejections: Sequence[Rejection], **more: object) -> Sequence[RowMapping]:
    parameters = {"rejections": REJECTIONS.dump_json(list(rejections)).decode()} | more
    return (await session.execute(queries.REJECT_CANDIDATES, parameters)).mappings().all()


def _outcome(row: RowMapping) -> Candidate | ServiceError:
    return Candidate.from_row(row) if row["id"] else refusal_of(row)


async def _find(session: AsyncSession, *, candidate_ids: Sequence[UUID]) -> dict[UUID, CandidateRecord]:
    distinct = list(set(candidate_ids))  # concurrent callers may ask for the same candidate
    rows = await session.execute(queries.FIND_RECORDS, {"candidate_ids": distinct})
    return {row.id: CandidateRecord.from_row(row) for row in rows}
