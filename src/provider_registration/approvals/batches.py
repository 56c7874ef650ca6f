"""Claiming and finishing approvals together with others that come at the same time.

Only the plain case is done so; for everything else the answer is None, and the caller looks at it alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from provider_registration.approvals import queries
from provider_registration.approvals.models import Claim, ClaimRequest, MadeProvider
from provider_registration.candidates.models import Candidate
from provider_registration.db.batching import Batcher
from provider_registration.db.database import Database
from provider_registration.failpoints import reach

REQUESTS = TypeAdapter(list[ClaimRequest])
MADE = TypeAdapter(list[MadeProvider])


class ApprovalBatches:
    """The two writes of a plain approval. A claim's lease lasts `lease_seconds`."""

    def __init__(self, database: Database, *, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._claims = Batcher(self._claim, time_limit=database.time_limit)
        self._finishes = Batcher(self._finish, time_limit=database.time_limit)

    async def claim(self, request: ClaimRequest) -> Claim | None:
        """Claim a candidate's approval and record who asked; None when anything stands in the way.

        Raises:
            RowHeld: another transaction holds the candidate.
            DatabaseUnavailable: PostgreSQL does not answer; whether the claim was stored is unknown.
        """
        return await self._claims.do(request)

    async def finish(self, made: MadeProvider) -> Candidate | None:
        """Mark a candidate approved, and end and record its approval; None when it is not what it was.

        Raises:
            IntegrityError: another candidate has this provider.
            RowHeld, DatabaseUnavailable: as from `claim`.
        """
        return await self._finishes.do(made)

    async def _claim(self, requests: Sequence[ClaimRequest]) -> list[Claim | None]:
        parameters = {"requests": REQUESTS.dump_json(list(requests)).decode(), "lease_seconds": self._lease_seconds}
        await reach("approval.before-claim")
        async with self._database.statement() as session:
            rows = (await session.execute(queries.CLAIM_FREE, parameters)).mappings()
            claims = {row["claim_id"]: Claim.from_row(row) for row in rows}
        return [claims.get(request.claim_id) for request in requests]

    async def _finish(self, made: Sequence[MadeProvider]) -> list[Candidate | None]:
        parameters = {"made": MADE.dump_json(list(made)).decode()}
        await reach("approval.before-finish")
        async with self._database.statement() as session:
            rows = (await session.execute(queries.APPROVE_CLAIMED, parameters)).mappings()
            approved = {(row["id"], row["provider_id"]): Candidate.from_row(row) for row in rows}
        return [approved.get((provider.candidate_id, provider.provider_id)) for provider in made]
