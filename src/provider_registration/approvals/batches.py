"""Claims and finishes approvals in batches, and one by one where needed.

A batch skips candidates locked by another transaction. Those are retried one by one, waiting for the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.approvals import queries
from provider_registration.approvals.errors import ApprovalNotFound, ProviderNameBusy, ProviderNameTaken
from provider_registration.approvals.models import Claim, ClaimRequest, CreatedProvider
from provider_registration.candidates import queries as candidate_queries
from provider_registration.candidates.deciding import final_answer, refusal_of
from provider_registration.candidates.errors import ApprovalInProgress, CandidateNotFound
from provider_registration.candidates.models import ApprovalState, Candidate, Status
from provider_registration.db.batching import Batcher
from provider_registration.db.database import NO_LOCK_TIMEOUT, Database, RowLocked
from provider_registration.errors import ServiceError
from provider_registration.failpoints import reach
from provider_registration.idempotency.errors import KeyInUse
from provider_registration.idempotency.models import Answer, Key
from provider_registration.idempotency.service import keep, take

NAME_TAKEN: Answer = {"obstacle": "name_taken"}  # kept for a key: billing's final answer
UNFINISHED_SECONDS = 2  # after which to ask for the outcome of an approval
IN_DOUBT_SECONDS = 60
REQUESTS = TypeAdapter(list[ClaimRequest])
CREATED = TypeAdapter(list[CreatedProvider])


class ApprovalBatches:
    """The two batched writes of an approval. A claim's lease lasts `lease_seconds`."""

    def __init__(self, database: Database, *, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._claims = Batcher(self._claim_together, time_limit=database.time_limit)
        self._finishes = Batcher(self._finish_together, time_limit=database.time_limit)

    async def claim(self, request: ClaimRequest) -> Claim:
        """Claim a candidate's approval and record who requested it.

        Raises:
            CandidateNotFound, CandidateNotPending, VersionMismatch: it cannot be approved.
            ApprovalInProgress, ApprovalNeedsResolution, ProviderNameBusy: another approval blocks it.
            ApprovalNotFound: there is none to retry.
            DatabaseUnavailable: PostgreSQL does not respond; the claim may have been stored.
        """
        claim = None
        with suppress(RowLocked):
            claim = await self._claims.do(request)
        return claim or await self._claim_alone(request)

    async def claim_once(self, request: ClaimRequest, key: Key) -> Claim | Candidate:
        """Claim alone, in the transaction that stores the key; the approved candidate if that key has approved it.

        Raises:
            KeyInUse: the approval that began with this key is unfinished, or another request holds the key.
            KeyReused: the key belongs to a request with other content.
            Others as for `claim`.
        """
        async with self._database.transaction() as session:
            kept = await take(session, key)
            if kept and kept.answer is not None:
                raise _kept_refusal(request.candidate_id, kept.answer).as_replay()
            if kept and (approved := await _result_of_open_key(session, request.candidate_id)):
                key.is_replay = True
                return approved
            row = await self._claim_locked(session, request)
            answer = None if row["claim_id"] else final_answer(row)
            if row["claim_id"] or answer:
                await keep(session, key, answer, candidate_id=request.candidate_id)
            await reach("approval.before-key-commit")
        return _claim_of(row, request)

    async def finish(self, created: CreatedProvider) -> Candidate:
        """Mark a candidate approved, end its approval and record that; a decided candidate is returned unchanged.

        Raises:
            CandidateNotFound: the candidate no longer exists.
            IntegrityError: another candidate has this provider.
            RowLocked, DatabaseUnavailable: PostgreSQL does not respond; the write may have been stored.
        """
        return await self._finishes.do(created) or await self._finish_alone(created)

    async def _claim_together(self, requests: Sequence[ClaimRequest]) -> list[Claim | None]:
        await reach("approval.before-claim")
        async with self._database.statement() as session:
            rows = (await session.execute(queries.CLAIM, self._claim_parameters(requests))).mappings()
            claims = {row["claim_id"]: Claim.from_row(row) for row in rows if row["claim_id"]}
        return [claims.get(request.claim_id) for request in requests]

    async def _claim_alone(self, request: ClaimRequest) -> Claim:
        async with self._database.transaction() as session:
            row = await self._claim_locked(session, request)
        return _claim_of(row, request)

    async def _claim_locked(self, session: AsyncSession, request: ClaimRequest) -> RowMapping:
        """Wait for the candidate's lock, then claim; the row has the claim or the obstacle."""
        await session.execute(candidate_queries.LOCK_CANDIDATES, {"candidate_ids": [request.candidate_id]})
        parameters = self._claim_parameters([request]) | {"lock_timeout": NO_LOCK_TIMEOUT}
        return (await session.execute(queries.CLAIM, parameters)).mappings().one()

    def _claim_parameters(self, requests: Sequence[ClaimRequest]) -> dict[str, object]:
        return {"requests": REQUESTS.dump_json(list(requests)).decode(), "lease_seconds": self._lease_seconds}

    async def _finish_together(self, created: Sequence[CreatedProvider]) -> list[Candidate | None]:
        await reach("approval.before-finish")
        parameters = {"created": CREATED.dump_json(list(created)).decode()}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.FINISH, parameters)).mappings()
            finished = {row["id"]: Candidate.from_row(row) for row in rows}
        return [finished.get(provider.candidate_id) for provider in created]

    async def _finish_alone(self, created: CreatedProvider) -> Candidate:
        async with self._database.transaction() as session:
            return await finish_locked(session, created)


def _claim_of(row: RowMapping, request: ClaimRequest) -> Claim:
    """The claim of a row; raises the error for its obstacle if it has none."""
    if row["claim_id"]:
        return Claim.from_row(row)
    match row["obstacle"]:
        case None if request.is_retry:
            raise ApprovalNotFound(request.candidate_id)
        case None:
            raise ProviderNameBusy
        case ApprovalState.WAITING:  # a sweep claimed it first
            raise ApprovalInProgress(request.candidate_id)
        case _:
            raise refusal_of(row)


def _kept_refusal(candidate_id: UUID, answer: Answer) -> ServiceError:
    if answer == NAME_TAKEN:
        return ProviderNameTaken()
    return refusal_of({"candidate_id": candidate_id, **answer})


async def _result_of_open_key(session: AsyncSession, candidate_id: UUID) -> Candidate | None:
    """The candidate that was approved since the key began its approval; None if that approval has ended otherwise.

    Raises:
        KeyInUse: it is unfinished.
    """
    row = (await session.execute(candidate_queries.FIND_CANDIDATE, {"candidate_id": candidate_id})).mappings().one()
    candidate = Candidate.from_row(row)
    if candidate.approval:
        needs_an_admin = candidate.approval.state is ApprovalState.IN_DOUBT
        raise KeyInUse(IN_DOUBT_SECONDS if needs_an_admin else UNFINISHED_SECONDS)
    return candidate if candidate.status is Status.APPROVED else None


async def finish_locked(session: AsyncSession, created: CreatedProvider) -> Candidate:
    """Lock a candidate and finish its approval at its current version.

    Raises:
        CandidateNotFound: it no longer exists.
        IntegrityError: another candidate has this provider.
    """
    keys = {"candidate_id": created.candidate_id, "expected": None}
    await session.execute(candidate_queries.LOCK_CANDIDATES, {"candidate_ids": [created.candidate_id]})
    seen = (await session.execute(candidate_queries.FIND_OBSTACLE, keys)).mappings().one()
    if seen["version_seen"] is None:
        raise CandidateNotFound(created.candidate_id)
    created = replace(created, candidate_version=seen["version_seen"])
    parameters = {"created": CREATED.dump_json([created]).decode(), "lock_timeout": NO_LOCK_TIMEOUT}
    return Candidate.from_row((await session.execute(queries.FINISH, parameters)).mappings().one())
