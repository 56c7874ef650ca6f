"""Registrations with an idempotency key, in batches of their own: each commits with what is kept for its key.

The response is made again from the repeated request, which has the same content: only the candidate's ID and the hash
of its status secret are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard
from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.candidates import queries
from provider_registration.candidates.company import Company
from provider_registration.candidates.errors import EmailTaken
from provider_registration.candidates.models import (
    CandidateRecord,
    Registered,
    Registration,
    registrations_json,
    stored_hash,
)
from provider_registration.db.batching import Batcher
from provider_registration.db.database import Database
from provider_registration.errors import ServiceError
from provider_registration.failpoints import reach
from provider_registration.idempotency.errors import KeyInUse
from provider_registration.idempotency.models import Answer, Kept, Key, fingerprint_of
from provider_registration.idempotency.service import keep_all, take_all
from provider_registration.web.text import canonical_email

EMAIL_TAKEN: Answer = {"obstacle": "email_taken"}
Outcome = Registered | ServiceError


@dataclass(frozen=True, slots=True)
class _Request:
    """`secrets`: what its status secret may be, by the current server key first; none if public pages are off."""

    registration: Registration
    key: Key
    secrets: list[str]


class KeyedRegistrations:
    """Registers companies once for each key and e-mail address."""

    def __init__(self, database: Database, derive: Callable[[str], list[str]], *, creates_status_links: bool) -> None:
        """`derive` makes a secret of a text under each server key, the current one first."""
        self._database = database
        self._derive = derive
        self._creates_status_links = creates_status_links
        self._batches = Batcher(
            self._register,
            time_limit=database.time_limit,
            key=lambda request: request.registration.contact_email_canonical,
        )

    async def register(self, company: Company, sent: str, *, language: str | None) -> Registered:
        """Store a new candidate, or return what was registered with this key.

        Raises:
            EmailTaken, RowLocked: as for `CandidateService.register`.
            KeyInUse, KeyReused: as for `take`.
        """
        email = canonical_email(company.contact_email)
        key = Key.of("registration", email, sent, fingerprint=fingerprint_of(company, language))
        secrets = self._derive(f"{sent} {email}") if self._creates_status_links else []
        registration = Registration.of(company, secrets[0] if secrets else None, language)
        outcome = await self._batches.do(_Request(registration, key, secrets))
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    async def _register(self, requests: Sequence[_Request]) -> list[Outcome]:
        """The outcome of each; of those with the same key, only the first is done."""
        first = {request.key.hash: request for request in reversed(requests)}
        async with self._database.transaction() as session:
            taken = await take_all(session, [request.key for request in first.values()])
            outcomes: dict[str, Outcome] = {hash_: each for hash_, each in taken.items() if _is_error(each)}
            known = {hash_: each for hash_, each in taken.items() if isinstance(each, Kept)}
            outcomes |= await _repeat(session, [(first[hash_], kept) for hash_, kept in known.items()])
            outcomes |= await _add(session, [request for hash_, request in first.items() if taken[hash_] is None])
            await reach("registration.before-key-commit")
        await reach("registration.after-key-commit")
        return [
            outcomes[request.key.hash] if first[request.key.hash] is request else KeyInUse() for request in requests
        ]


def _is_error(taken: Kept | ServiceError | None) -> TypeGuard[ServiceError]:
    return isinstance(taken, ServiceError)


async def _add(session: AsyncSession, requests: Sequence[_Request]) -> dict[str, Outcome]:
    """Register companies, and keep the outcome of each. A refusal is kept with the candidate that has the address."""
    if not requests:
        return {}
    outcomes: dict[str, Outcome] = {}
    kept = []
    records = await _records(session, queries.INSERT_CANDIDATES, [request.registration for request in requests])
    for request in requests:
        registration = request.registration
        if record := records.get(registration.candidate_id):
            secret = request.secrets[0] if request.secrets else None
            outcomes[request.key.hash] = Registered(record, secret)
            kept.append((request.key, Kept(_answer(secret), registration.candidate_id)))
        else:
            outcomes[request.key.hash] = EmailTaken()
    refused = [request for request in requests if request.registration.candidate_id not in records]
    if refused:
        emails = [request.registration.contact_email_canonical for request in refused]
        rows = await session.execute(queries.LOCK_ADDRESSES, {"emails": emails})
        holders = {row.contact_email_canonical: row.id for row in rows}
        for request, email in zip(refused, emails, strict=True):
            if email in holders:
                kept.append((request.key, Kept(EMAIL_TAKEN, holders[email])))
    await keep_all(session, kept)
    return outcomes


async def _repeat(session: AsyncSession, known: Sequence[tuple[_Request, Kept]]) -> dict[str, Outcome]:
    """The outcomes of earlier requests, made again from these, which have the same content."""
    outcomes: dict[str, Outcome] = {}
    again = {}
    for request, kept in known:
        if kept.answer == EMAIL_TAKEN:
            outcomes[request.key.hash] = EmailTaken().as_replay()
        else:
            again[request.key.hash] = request.registration.model_copy(update={"candidate_id": kept.candidate_id})
    if again:
        records = await _records(session, queries.REPEAT_REGISTRATIONS, list(again.values()))
        for request, kept in known:
            if registration := again.get(request.key.hash):
                secret = next((each for each in request.secrets if _answer(each) == kept.answer), None)
                outcomes[request.key.hash] = Registered(records[registration.candidate_id], secret, is_replay=True)
    return outcomes


def _answer(status_secret: str | None) -> Answer:
    return {"status_secret_hash": stored_hash(status_secret) if status_secret else None}


async def _records(
    session: AsyncSession, statement: TextClause, registrations: Sequence[Registration]
) -> dict[UUID, CandidateRecord]:
    """The records that a statement returns, by ID."""
    rows = await session.execute(statement, {"registrations": registrations_json(registrations)})
    return {row.id: CandidateRecord.from_row(row) for row in rows}
