"""Approving a candidate: claim it durably, ask billing with no database connection held, record the answer.

Whatever dies in between, the intent that the claim wrote remains, and repeating the call with its key is safe.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from provider_registration.billing.client import BillingClient
from provider_registration.billing.errors import (
    BillingNameTaken,
    BillingNotSent,
    BillingRefused,
    BillingUncertain,
)
from provider_registration.candidates import queries
from provider_registration.candidates.errors import (
    ApprovalFailed,
    ApprovalInProgress,
    ApprovalUncertain,
    CandidateChanged,
    CandidateNotFound,
    ProviderNameBusy,
    ProviderNameTaken,
)
from provider_registration.candidates.models import Candidate, Status
from provider_registration.candidates.selection import lock_pending
from provider_registration.database import Database, DatabaseUnavailable, constraint_name

logger = logging.getLogger(__name__)

LEASE_SECONDS = 30.0  # longer than BillingClient ever takes, so that nobody takes over a living worker
FINISH_TRIES = 20
FINISH_SECONDS = 8.0
KEY_NAMESPACE = UUID("8f0d3b5e-6c0a-5f0e-9f6e-2b1c4f7d9a10")  # never change it: keys in billing were made with it


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ask billing for one candidate's provider, until the lease runs out."""

    candidate_id: UUID
    claim_id: UUID
    idempotency_key: UUID
    provider_name: str
    candidate_version: int
    maybe_sent: bool


class ApprovalProcess:
    """Takes approvals from the claim to the end. Close it before the database and the billing client."""

    def __init__(self, database: Database, billing: BillingClient) -> None:
        self._database = database
        self._billing = billing
        self._under_way: set[asyncio.Task[Candidate]] = set()

    async def approve(self, candidate_id: UUID, *, user_id: UUID, expected: frozenset[int] | None) -> Candidate:
        """Approve a candidate; a caller who leaves does not interrupt it.

        Raises:
            CandidateNotFound, CandidateNotPending, VersionMismatch, ApprovalInProgress, ProviderNameBusy: no claim.
            ApprovalFailed, ProviderNameTaken: billing made no provider.
            ApprovalUncertain: billing may have made one; the intent stands.
            CandidateChanged: somebody decided otherwise meanwhile.
        """
        task = asyncio.create_task(self._approve(candidate_id, user_id, expected))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for the approvals under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LEASE_SECONDS)

    async def _approve(self, candidate_id: UUID, user_id: UUID, expected: frozenset[int] | None) -> Candidate:
        claim = await self._claim(candidate_id, user_id, expected)
        provider_id = await self._ask_billing(claim)
        return await self._finish(claim, provider_id)

    async def _claim(self, candidate_id: UUID, user_id: UUID, expected: frozenset[int] | None) -> Claim:
        claim_id = uuid.uuid4()
        try:
            async with self._database.transaction() as session:
                candidate = await lock_pending(session, candidate_id, expected)
                parameters = {
                    "candidate_id": candidate_id,
                    "idempotency_key": uuid.uuid5(KEY_NAMESPACE, str(candidate_id)),
                    "provider_name": candidate.company_name,
                    "candidate_version": candidate.version,
                    "requested_by": user_id,
                    "claim_id": claim_id,
                    "lease_seconds": LEASE_SECONDS,
                }
                row = (await session.execute(queries.CLAIM_APPROVAL, parameters)).mappings().one_or_none()
        except IntegrityError as error:
            if constraint_name(error) == "uq_approval_intents_provider_name":
                raise ProviderNameBusy from None
            raise
        if row is None:
            raise ApprovalInProgress(candidate_id)
        return Claim(candidate_id=candidate_id, claim_id=claim_id, **row)

    async def _ask_billing(self, claim: Claim) -> int:
        try:
            return await self._billing.create_provider(
                claim.provider_name, claim.idempotency_key, maybe_sent_before=claim.maybe_sent
            )
        except (BillingNotSent, BillingRefused) as error:
            if claim.maybe_sent:
                await self._keep(claim, str(error))
                raise ApprovalUncertain(str(error)) from None
            await self._drop(claim)
            raise ApprovalFailed(str(error)) from None
        except BillingNameTaken as error:
            if error.maybe_ours:
                await self._keep(claim, str(error))
                raise ApprovalUncertain(str(error)) from None
            await self._drop(claim)
            raise ProviderNameTaken from None
        except BillingUncertain as error:
            await self._keep(claim, str(error))
            raise ApprovalUncertain(str(error)) from None

    async def _finish(self, claim: Claim, provider_id: int) -> Candidate:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(FINISH_TRIES) | stop_after_delay(FINISH_SECONDS),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            retry=retry_if_exception_type(DatabaseUnavailable),
            reraise=True,
        )
        return await retrying(self._record, claim, provider_id)

    async def _record(self, claim: Claim, provider_id: int) -> Candidate:
        parameters = {
            "candidate_id": claim.candidate_id,
            "version": claim.candidate_version,
            "provider_id": provider_id,
        }
        async with self._database.transaction() as session:
            row = (await session.execute(queries.APPROVE_CANDIDATE, parameters)).mappings().one_or_none()
            if row is None:
                row = (await session.execute(queries.FIND_CANDIDATE, parameters)).mappings().one_or_none()
            if row is None:
                raise CandidateNotFound(claim.candidate_id)
            candidate = Candidate.from_row(row)
            if candidate.status is Status.APPROVED and candidate.provider_id == provider_id:
                await session.execute(queries.DROP_APPROVAL, parameters)
                return candidate
        logger.error(
            "billing has a provider that no candidate is linked to",
            extra={"candidate_id": str(claim.candidate_id), "provider_id": provider_id},
        )
        raise CandidateChanged(claim.candidate_id)

    async def _drop(self, claim: Claim) -> None:
        async with self._database.transaction() as session:
            await session.execute(queries.DROP_CLAIM, {"candidate_id": claim.candidate_id, "claim_id": claim.claim_id})

    async def _keep(self, claim: Claim, last_error: str) -> None:
        async with self._database.transaction() as session:
            await session.execute(
                queries.RELEASE_LEASE,
                {"candidate_id": claim.candidate_id, "claim_id": claim.claim_id, "last_error": last_error},
            )
