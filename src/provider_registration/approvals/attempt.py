"""One attempt at a claimed approval: call billing, then record the outcome."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from prometheus_client import Counter
from sqlalchemy import TextClause
from sqlalchemy.exc import IntegrityError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from provider_registration.approvals import queries
from provider_registration.approvals.batches import NAME_TAKEN, ApprovalBatches
from provider_registration.approvals.errors import (
    ApprovalFailed,
    ApprovalInDoubt,
    ApprovalWaiting,
    BillingPaused,
    ProviderNameTaken,
)
from provider_registration.approvals.models import Claim, CreatedProvider
from provider_registration.billing.client import BillingClient
from provider_registration.billing.errors import (
    BillingCircuitOpen,
    BillingError,
    BillingNameTaken,
    BillingNotSent,
    BillingRefused,
    BillingUncertain,
    BillingUnusable,
)
from provider_registration.candidates import queries as candidate_queries
from provider_registration.candidates.errors import ApprovalInProgress, CandidateChanged
from provider_registration.candidates.models import Candidate, Status
from provider_registration.db.database import Database, DatabaseUnavailable, constraint_name
from provider_registration.errors import ServiceError
from provider_registration.failpoints import reach
from provider_registration.idempotency.models import Answer
from provider_registration.idempotency.service import end_open
from provider_registration.observability.metrics import APPROVAL_ATTEMPTS

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 2.5  # doubled after each attempt
MAX_RETRY_SECONDS = 30.0
MAX_UNANSWERED = 4  # attempts at one approval, all within two minutes, while billing responds to others
JITTER = secrets.SystemRandom()

Result = TypeVar("Result")


class Attempt:
    """What a worker does with a claim. It retries its database writes until the lease expires."""

    def __init__(
        self,
        database: Database,
        billing: BillingClient,
        batches: ApprovalBatches,
        claim: Claim,
        *,
        lease_seconds: float,
    ) -> None:
        self._database = database
        self._batches = batches
        self._billing = billing
        self._claim = claim
        self._lease_ends = asyncio.get_running_loop().time() + lease_seconds

    async def carry_out(self) -> Candidate:
        """Carry the approval out, as far as possible now.

        Raises:
            ApprovalFailed, BillingPaused, ProviderNameTaken: billing created no provider; the approval has ended.
            ApprovalWaiting, ApprovalInDoubt: billing may have created one; the approval stays open.
            ApprovalInProgress: another worker took over and has not finished.
            CandidateChanged: someone else decided in the meantime; the provider is an orphan.
        """
        claim = self._claim
        if claim.maybe_sent and not self._billing.retry_ambiguous:
            reason = "an earlier request may have reached billing, and retries are disabled"
            return await self._mark_in_doubt(reason, "retries_off")
        try:
            provider_id = await self._billing.create_provider(
                claim.provider_name, claim.idempotency_key, maybe_sent=claim.maybe_sent
            )
        except BillingError as error:
            return await self._settle(error)
        try:
            return await self._durably(self._record_provider, provider_id)
        except BaseException:  # also at shutdown: nothing else has this ID
            self._log(logging.WARNING, "billing's provider is not linked to the candidate", provider_id=provider_id)
            raise

    async def _settle(self, error: BillingError) -> Candidate:
        reason, code = str(error), _code_of(error)
        match error:
            case BillingUncertain() if self._needs_an_admin(error):
                return await self._mark_in_doubt(reason, code)
            case BillingUncertain():
                was_called = not isinstance(error.__cause__, BillingCircuitOpen)
                return await self._keep_waiting(reason, was_called=was_called)
            case BillingNameTaken():
                return await self._drop(reason, code, "name_taken", ProviderNameTaken())
            case BillingCircuitOpen(retry_after=seconds):
                return await self._drop(reason, code, "failed", BillingPaused(retry_after=int(seconds) + 1))
            case BillingNotSent() | BillingRefused():
                return await self._drop(reason, code, "failed", ApprovalFailed(reason))
            case _:
                raise error

    def _needs_an_admin(self, error: BillingUncertain) -> bool:
        """Whether another request to billing would not help, or is not allowed."""
        if isinstance(error, BillingUnusable):
            return True
        match error.__cause__:
            case BillingNameTaken():
                return True
            case BillingRefused(is_retryable=is_retryable):
                return not is_retryable
            case _ if self._claim.attempts >= MAX_UNANSWERED and self._billing.breaker.responded_recently:
                return True  # billing responds to other requests, but not to this one
            case _:
                return not self._billing.retry_ambiguous

    async def _keep_waiting(self, reason: str, *, was_called: bool) -> Candidate:
        backoff = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(self._claim.attempts - 1, 10))
        wait_seconds = backoff * JITTER.uniform(0.75, 1.25)
        parameters = {"wait_seconds": wait_seconds, "last_error": reason, "was_called": was_called}
        return await self._release(queries.KEEP_WAITING, parameters, "waiting", ApprovalWaiting(reason))

    async def _mark_in_doubt(self, reason: str, code: str) -> Candidate:
        parameters = {"last_error": reason, "error_code": code}
        return await self._release(queries.MARK_IN_DOUBT, parameters, "in_doubt", ApprovalInDoubt(reason))

    async def _drop(self, reason: str, code: str, outcome: str, error: ServiceError) -> Candidate:
        parameters = {"last_error": reason, "error_code": code}
        return await self._release(queries.DROP_CLAIM, parameters, outcome, error)

    async def _release(
        self, statement: TextClause, parameters: dict[str, Any], outcome: str, error: ServiceError
    ) -> Candidate:
        """Release the claim and raise `error`; if another worker has taken it over, return that worker's result."""
        answer = NAME_TAKEN if isinstance(error, ProviderNameTaken) else None
        if not await self._durably(self._give_up, statement, parameters, answer):
            _counter("superseded").inc()
            self._log(logging.WARNING, "another worker took over the approval")
            return await self._result_of_other_worker()
        _counter(outcome).inc()
        self._log(logging.WARNING, f"approval {outcome.replace('_', ' ')}", reason=parameters["last_error"])
        raise error

    async def _give_up(self, statement: TextClause, parameters: dict[str, Any], answer: Answer | None) -> bool:
        """Release the claim, if it is still ours; `answer` is kept for the idempotency keys of a dropped approval."""
        keys = {"candidate_id": self._claim.candidate_id, "claim_id": self._claim.claim_id}
        async with self._database.transaction() as session:
            await session.execute(candidate_queries.LOCK_CANDIDATES, {"candidate_ids": [self._claim.candidate_id]})
            still_ours = (await session.execute(statement, parameters | keys)).one_or_none() is not None
            if still_ours and statement is queries.DROP_CLAIM:
                await end_open(session, self._claim.candidate_id, answer)
            await reach("approval.before-release-commit")
        await reach("approval.after-release-commit")
        return still_ours

    async def _record_provider(self, provider_id: int) -> Candidate:
        """Mark the candidate approved. A known provider is recorded even if the lease has expired."""
        claim = self._claim
        created = CreatedProvider(claim.candidate_id, claim.candidate_version, claim.idempotency_key, provider_id)
        try:
            # After RowLocked, `_durably` retries until the lease expires; a claim must finish within its request.
            candidate = await self._batches.finish(created)
        except IntegrityError as error:
            if constraint_name(error) != "uq_candidates_provider_id":
                raise
            reason = f"billing returned provider {provider_id}, which another candidate has"
            return await self._mark_in_doubt(reason, "provider_taken")
        await reach("approval.after-finish-commit")
        if candidate.provider_id != provider_id:
            _counter("superseded").inc()
            self._log(logging.ERROR, "no candidate is linked to this provider in billing", provider_id=provider_id)
            raise CandidateChanged(claim.candidate_id)
        _counter("approved").inc()
        self._log(logging.INFO, "candidate approved", provider_id=provider_id)
        return candidate

    async def _result_of_other_worker(self) -> Candidate:
        async with self._database.transaction() as session:
            parameters = {"candidate_id": self._claim.candidate_id}
            row = (await session.execute(candidate_queries.FIND_CANDIDATE, parameters)).mappings().one_or_none()
        if row is not None and row["status"] == Status.APPROVED:
            return Candidate.from_row(row)
        raise ApprovalInProgress(self._claim.candidate_id)

    async def _durably(self, write: Callable[..., Awaitable[Result]], *arguments: object) -> Result:
        """Retry `write` until the database accepts it or the lease expires; after that, the sweep continues."""
        try:
            with suppress(DatabaseUnavailable):
                return await write(*arguments)  # usually the only attempt, without the cost of tenacity
            left = max(0.0, self._lease_ends - asyncio.get_running_loop().time())
            retrying = AsyncRetrying(
                stop=stop_after_delay(left),
                wait=wait_random_exponential(multiplier=0.1, max=1.0),
                retry=retry_if_exception_type(DatabaseUnavailable),
                reraise=True,
            )
            return await retrying(write, *arguments)
        except DatabaseUnavailable as error:
            self._log(logging.WARNING, "the database does not respond; the approval stays open")
            raise ApprovalWaiting("the database did not respond while the result was being stored") from error

    def _log(self, level: int, message: str, **fields: object) -> None:
        claim = self._claim
        extra = {
            "idempotency_key": str(claim.idempotency_key),
            "candidate_id": str(claim.candidate_id),
            "attempt": claim.attempts,
            **fields,
        }
        logger.log(level, message, extra=extra)


def _code_of(error: BillingError) -> str:
    """The code of an error in the data of events; of an uncertain one, what billing last did."""
    cause = error.__cause__ if isinstance(error.__cause__, BillingError) else error
    return "unusable" if isinstance(cause, BillingUnusable) else cause.outcome


@cache
def _counter(outcome: str) -> Counter:
    return APPROVAL_ATTEMPTS.labels(outcome)
