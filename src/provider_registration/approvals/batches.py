"""Claiming and finishing approvals together with others that come at the same time, and alone where that is needed.

A batch does not wait for candidates that another transaction holds. What it could not do is tried again alone, which
waits for the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.approvals import queries
from provider_registration.approvals.errors import ApprovalNotFound, ProviderNameBusy
from provider_registration.approvals.models import Claim, ClaimRequest, MadeProvider
from provider_registration.candidates import queries as candidate_queries
from provider_registration.candidates.deciding import refusal_of
from provider_registration.candidates.errors import ApprovalInProgress, CandidateNotFound
from provider_registration.candidates.models import ApprovalState, Candidate
from provider_registration.db.batching import Batcher
from provider_registration.db.database import AS_LONG_AS_IT_TAKES, Database, RowHeld
from provider_registration.failpoints import reach

REQUESTS = TypeAdapter(list[ClaimRequest])
MADE = TypeAdapter(list[MadeProvider])


class ApprovalBatches:
    """The two writes of an approval. A claim's lease lasts `lease_seconds`."""

    def __init__(self, database: Database, *, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._claims = Batcher(self._claim_together, time_limit=database.time_limit)
        self._finishes = Batcher(self._finish_together, time_limit=database.time_limit)

    async def claim(self, request: ClaimRequest) -> Claim:
        """Claim a candidate's approval and record who asked.

        Raises:
            CandidateNotFound, CandidateNotPending, VersionMismatch: it cannot be approved.
            ApprovalInProgress, ApprovalNeedsResolution, ProviderNameBusy: another approval stands in the way.
            ApprovalNotFound: there is none to retry.
            DatabaseUnavailable: PostgreSQL does not answer; whether the claim was stored is unknown.
        """
        claim = None
        with suppress(RowHeld):
            claim = await self._claims.do(request)
        return claim or await self._claim_alone(request)

    async def finish(self, made: MadeProvider) -> Candidate:
        """Mark a candidate approved, and end and record its approval; one decided otherwise comes back as it is.

        Raises:
            CandidateNotFound: the candidate is gone.
            IntegrityError: another candidate has this provider.
            RowHeld, DatabaseUnavailable: PostgreSQL does not answer; whether it was stored is unknown.
        """
        return await self._finishes.do(made) or await self._finish_alone(made)

    async def _claim_together(self, requests: Sequence[ClaimRequest]) -> list[Claim | None]:
        await reach("approval.before-claim")
        async with self._database.statement() as session:
            rows = (await session.execute(queries.CLAIM, self._claiming(requests))).mappings()
            claims = {row["claim_id"]: Claim.from_row(row) for row in rows if row["claim_id"]}
        return [claims.get(request.claim_id) for request in requests]

    async def _claim_alone(self, request: ClaimRequest) -> Claim:
        async with self._database.transaction() as session:
            await session.execute(candidate_queries.LOCK_CANDIDATES, {"candidate_ids": [request.candidate_id]})
            parameters = self._claiming([request]) | {"patience": AS_LONG_AS_IT_TAKES}
            row = (await session.execute(queries.CLAIM, parameters)).mappings().one()
        if row["claim_id"]:
            return Claim.from_row(row)
        match row["obstacle"]:
            case None if request.is_retry:
                raise ApprovalNotFound(request.candidate_id)
            case None:
                raise ProviderNameBusy
            case ApprovalState.WAITING:  # a sweep was faster
                raise ApprovalInProgress(request.candidate_id)
            case _:
                raise refusal_of(row)

    def _claiming(self, requests: Sequence[ClaimRequest]) -> dict[str, object]:
        return {"requests": REQUESTS.dump_json(list(requests)).decode(), "lease_seconds": self._lease_seconds}

    async def _finish_together(self, made: Sequence[MadeProvider]) -> list[Candidate | None]:
        await reach("approval.before-finish")
        async with self._database.statement() as session:
            rows = (await session.execute(queries.FINISH, {"made": MADE.dump_json(list(made)).decode()})).mappings()
            finished = {row["id"]: Candidate.from_row(row) for row in rows}
        return [finished.get(provider.candidate_id) for provider in made]

    async def _finish_alone(self, made: MadeProvider) -> Candidate:
        async with self._database.transaction() as session:
            return await finish_locked(session, made)


async def finish_locked(session: AsyncSession, made: MadeProvider) -> Candidate:
    """Wait for a candidate, and finish its approval at the version that it has then.

    Raises:
        CandidateNotFound: it is gone.
        IntegrityError: another candidate has this provider.
    """
    keys = {"candidate_id": made.candidate_id, "expected": None}
    await session.execute(candidate_queries.LOCK_CANDIDATES, {"candidate_ids": [made.candidate_id]})
    seen = (await session.execute(candidate_queries.FIND_OBSTACLE, keys)).mappings().one()
    if seen["version_seen"] is None:
        raise CandidateNotFound(made.candidate_id)
    made = replace(made, candidate_version=seen["version_seen"])
    parameters = {"made": MADE.dump_json([made]).decode(), "patience": AS_LONG_AS_IT_TAKES}
    return Candidate.from_row((await session.execute(queries.FINISH, parameters)).mappings().one())
