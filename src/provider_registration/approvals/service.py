"""The operations on approvals: start, retry, resolve, list, and the sweep that completes the rest."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from math import nan
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.approvals import queries
from provider_registration.approvals.attempt import MAX_UNANSWERED, Attempt
from provider_registration.approvals.batches import ApprovalBatches, finish_locked
from provider_registration.approvals.errors import (
    ApprovalNotFound,
    ApprovalNotInDoubt,
    ApprovalWaiting,
    ProviderLinkedElsewhere,
)
from provider_registration.approvals.models import (
    Approval,
    ApprovalPage,
    ApprovalRecord,
    Claim,
    ClaimRequest,
    CreatedProvider,
    RecordPage,
)
from provider_registration.audit.models import Actor
from provider_registration.billing.client import BillingClient
from provider_registration.billing.models import BreakerState
from provider_registration.candidates import queries as candidate_queries
from provider_registration.candidates.company import MAX_INTEGER
from provider_registration.candidates.deciding import refusal_of
from provider_registration.candidates.errors import (
    CandidateChanged,
)
from provider_registration.candidates.models import LONGEST_SECONDS, ApprovalState, Candidate, Status
from provider_registration.db.database import Database, constraint_name
from provider_registration.db.reading import Reader
from provider_registration.errors import ServiceError
from provider_registration.failpoints import reach
from provider_registration.idempotency.models import Key
from provider_registration.idempotency.service import end_open
from provider_registration.observability.metrics import (
    APPROVALS_UNFINISHED,
    CANDIDATES,
    OLDEST_APPROVAL_SECONDS,
    OLDEST_PENDING_SECONDS,
    OLDEST_TRANSACTION_SECONDS,
    ORPHANED_PROVIDERS,
    REPLICA_LAG_SECONDS,
    TRANSACTIONS_SINCE_OLDEST,
)
from provider_registration.web.pagination import Page, Position

logger = logging.getLogger(__name__)

LEASE_SHARE = 1.5  # a lease lasts this many deadlines of a billing call, so no one takes over from a live worker
SWEEPS_AT_ONCE = 5
LAST_RESORT_SECONDS = (
    15.0  # after which a half-open breaker is also probed with approvals that failed MAX_UNANSWERED times
)
STOP_SECONDS = 10.0  # for which shutdown waits for running approvals
KEY_NAMESPACE = UUID("8f0d3b5e-6c0a-5f0e-9f6e-2b1c4f7d9a10")  # never change it: existing keys in billing depend on it


class ApprovalService:
    """Runs approvals from the claim to the end. `stop` it before the database and the billing client."""

    def __init__(self, database: Database, reader: Reader, billing: BillingClient) -> None:
        self._database = database
        self._reader = reader
        self._billing = billing
        self.lease_seconds = billing.deadline * LEASE_SHARE
        self._batches = ApprovalBatches(database, lease_seconds=self.lease_seconds)
        self._running: set[asyncio.Task[Candidate]] = set()

    @property
    def billing_pause(self) -> float:
        """For how many more seconds this process does not call billing after failures; 0 if it does."""
        breaker = self._billing.breaker
        return breaker.retry_after if breaker.state is BreakerState.OPEN else 0.0

    async def approve(
        self,
        candidate_id: UUID,
        *,
        actor: Actor,
        expected: frozenset[int] | None = None,
        notify: bool = True,
        key: Key | None = None,
        job_id: UUID | None = None,
    ) -> Candidate:
        """Approve a candidate; the approval continues if the client disconnects.

        `notify`: the company gets an e-mail when it is approved. `job_id`: the job that does it; its event names it.

        Raises:
            CandidateNotFound, CandidateNotPending, VersionMismatch: it cannot be approved.
            ApprovalInProgress, ApprovalNeedsResolution, ProviderNameBusy: another approval blocks it.
            KeyInUse, KeyReused: as for `ApprovalBatches.claim_once`, with an idempotency key.
            ServiceError: as for `Attempt.carry_out`.
        """
        request = replace(_request(candidate_id, actor, expected, is_retry=False, notify=notify), job_id=job_id)
        return await self._uninterrupted(self._claim_and_carry_out(request, key))

    async def retry(self, candidate_id: UUID, *, actor: Actor, expected: frozenset[int] | None = None) -> Candidate:
        """Retry a waiting approval now.

        Raises:
            ApprovalNotFound: there is none. Otherwise as for `approve`.
        """
        request = _request(candidate_id, actor, expected, is_retry=True)
        return await self._uninterrupted(self._claim_and_carry_out(request))

    async def link(
        self, candidate_id: UUID, provider_id: int, *, actor: Actor, expected: frozenset[int] | None = None
    ) -> Candidate:
        """Resolve an approval in doubt: link the provider in billing to the candidate.

        Raises:
            CandidateNotFound, CandidateNotPending, VersionMismatch, ApprovalNotFound, ApprovalNotInDoubt: nothing was
                resolved.
            ProviderLinkedElsewhere: another candidate has this provider.
            CandidateChanged: someone else decided in the meantime; the approval has ended, the provider is an orphan.
        """
        try:
            async with self._database.transaction() as session:
                approval, version = await self._lock_in_doubt(session, candidate_id, expected)
                key = approval.idempotency_key
                created = CreatedProvider(candidate_id, version, key, provider_id, actor)
                candidate = await finish_locked(session, created)
                await reach("resolve.before-commit")
        except IntegrityError as error:
            if constraint_name(error) == "uq_candidates_provider_id":
                raise ProviderLinkedElsewhere(provider_id) from None
            raise
        await reach("resolve.after-commit")
        self._reader.note_decision()
        if candidate.provider_id != provider_id:
            _log("approval in doubt ended; the provider is an orphan", approval, provider_id=provider_id)
            raise CandidateChanged(candidate_id)
        _log("approval in doubt resolved: linked", approval, provider_id=provider_id)
        return candidate

    async def let_go(self, candidate_id: UUID, *, actor: Actor, expected: frozenset[int] | None = None) -> Candidate:
        """Resolve an approval in doubt: cancel it. The candidate can then be decided again.

        Raises:
            CandidateNotFound, CandidateNotPending, VersionMismatch, ApprovalNotFound, ApprovalNotInDoubt: nothing was
                resolved.
        """
        async with self._database.transaction() as session:
            approval, _ = await self._lock_in_doubt(session, candidate_id, expected)
            keys = {"candidate_id": candidate_id}
            await session.execute(queries.DROP_APPROVAL, keys | {"actor_kind": str(actor.kind), "actor_id": actor.id})
            await end_open(session, candidate_id, None)
            candidate = (await session.execute(candidate_queries.FIND_CANDIDATE, keys)).mappings().one()
            await reach("resolve.before-commit")
        await reach("resolve.after-commit")
        _log("approval in doubt resolved: cancelled", approval)
        return Candidate.from_row(candidate)

    async def list_unfinished(self, page: Page[Position], *, state: ApprovalState | None) -> ApprovalPage:
        """One page of the unfinished approvals, oldest first."""
        after = page.after
        parameters = {
            "state": state,
            "limit": page.limit + 1,  # one more shows whether there is a next page
            "offset": page.offset,
            "after_at": after.at if after else None,
            "after_id": after.id if after else None,
        }
        async with self._database.transaction() as session:
            total = await session.scalar(queries.COUNT_APPROVALS, {"state": state})
            rows = (await session.execute(queries.LIST_APPROVALS, parameters)).mappings().all()
        approvals = [Approval.from_row(row) for row in rows[: page.limit]]
        has_more = len(rows) > page.limit
        position = Position(approvals[-1].requested_at, approvals[-1].candidate_id) if has_more else None
        return ApprovalPage(approvals, total or 0, position)

    async def history(self, candidate_id: UUID, *, limit: int, before: int | None = None) -> RecordPage:
        """At most `limit` events of a candidate's approval, newest first, from the one before the ID `before`."""
        parameters = {"candidate_id": candidate_id, "limit": limit + 1, "before": before}
        async with self._database.transaction() as session:
            rows = (await session.execute(queries.LIST_EVENTS, parameters)).mappings().all()
        records = [ApprovalRecord.from_row(row) for row in rows[:limit]]
        return RecordPage(records, records[-1].id if len(rows) > limit else None)

    async def sweep(self) -> None:
        """Carry out due approvals: those whose worker died, and those that wait for a retry."""
        self._billing.breaker.update_metric()
        while self._billing.breaker.state is not BreakerState.OPEN:
            probing = self._billing.breaker.state is BreakerState.HALF_OPEN
            # An approval that billing never responds to would use up every probe and keep the others waiting.
            is_left_to_others = probing and self._billing.breaker.half_open_seconds < LAST_RESORT_SECONDS
            max_attempts = MAX_UNANSWERED if is_left_to_others else MAX_INTEGER
            at_once = 1 if probing else SWEEPS_AT_ONCE
            claims = [claim for _ in range(at_once) if (claim := await self._claim_due(max_attempts))]
            if not claims:
                break
            attempts = (self._uninterrupted(self._attempt(claim)) for claim in claims)
            for result in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, ServiceError):
                    raise result

    async def observe(self) -> None:
        """Update the metrics that come from the database."""
        async with self._database.transaction() as session:
            rows = (await session.execute(queries.SUMMARISE)).all()
            orphans = await session.scalar(queries.COUNT_ORPHANS)
            counts = {
                row.status: row.candidates
                for row in await session.execute(candidate_queries.COUNT_BY_STATUS, {"product": ""})
            }
            oldest_pending = await session.scalar(candidate_queries.OLDEST_PENDING_SECONDS)
            oldest = (await session.execute(queries.OLDEST_TRANSACTION)).one_or_none()
        for status in Status:
            CANDIDATES.labels(status).set(counts.get(status, 0))
        OLDEST_PENDING_SECONDS.set(oldest_pending or 0)
        OLDEST_TRANSACTION_SECONDS.set(oldest.seconds if oldest else nan)
        TRANSACTIONS_SINCE_OLDEST.set(oldest.later if oldest else nan)
        unfinished = {row.state: row.unfinished for row in rows}
        for state in ApprovalState:
            APPROVALS_UNFINISHED.labels(state).set(unfinished.get(state, 0))
        OLDEST_APPROVAL_SECONDS.set(max((row.oldest_seconds for row in rows), default=0.0))
        ORPHANED_PROVIDERS.set(orphans or 0)
        REPLICA_LAG_SECONDS.set(await self._reader.measure_lag())

    async def stop(self, stopping: asyncio.Event) -> None:
        """Once `stopping` is set, wait briefly for running attempts; another process's sweep completes the rest.

        Their callers get ApprovalWaiting.
        """
        await stopping.wait()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _uninterrupted(self, work: Coroutine[Any, Any, Candidate]) -> Candidate:
        """Run `work` to its end, even if its caller is cancelled."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise ApprovalWaiting("the service was stopped") from None
            raise

    def _done(self, task: asyncio.Task[Candidate]) -> None:
        self._running.discard(task)
        self._reader.note_decision()  # before the caller continues, and even if it has left
        if not task.cancelled():
            task.exception()  # mark it as retrieved; the caller gets it, if there is one

    async def _claim_and_carry_out(self, request: ClaimRequest, key: Key | None = None) -> Candidate:
        claim = await (self._batches.claim(request) if key is None else self._batches.claim_once(request, key))
        if isinstance(claim, Candidate):
            return claim
        await reach("approval.after-claim-commit")
        return await self._attempt(claim)

    async def _attempt(self, claim: Claim) -> Candidate:
        attempt = Attempt(self._database, self._billing, self._batches, claim, lease_seconds=self.lease_seconds)
        return await attempt.carry_out()

    async def _claim_due(self, max_attempts: int) -> Claim | None:
        parameters = {
            "max_attempts": max_attempts,
            "claim_id": uuid.uuid4(),
            "lease_seconds": self.lease_seconds,
            "longest_seconds": LONGEST_SECONDS,
        }
        async with self._database.transaction() as session:
            row = (await session.execute(queries.CLAIM_DUE, parameters)).mappings().one_or_none()
            await reach("sweep.before-claim-commit")
        if row is None:
            return None
        await reach("sweep.after-claim-commit")
        claim = Claim.from_row(row)
        _log("approval claimed by the sweep", claim, attempt=claim.attempts)
        return claim

    async def _lock_in_doubt(
        self, session: AsyncSession, candidate_id: UUID, expected: frozenset[int] | None
    ) -> tuple[Approval, int]:
        """The approval and the version of its candidate, which may have been decided in the meantime."""
        keys = {"candidate_id": candidate_id, "expected": list(expected) if expected is not None else None}
        await session.execute(candidate_queries.LOCK_CANDIDATES, {"candidate_ids": [candidate_id]})
        seen = (await session.execute(candidate_queries.FIND_OBSTACLE, keys)).mappings().one()
        if seen["obstacle"] in ("not_found", "version_mismatch"):
            raise refusal_of(seen)
        row = (await session.execute(queries.LOCK_APPROVAL, keys)).mappings().one_or_none()
        if row is None:
            raise refusal_of(seen) if seen["obstacle"] else ApprovalNotFound(candidate_id)
        if row["state"] != ApprovalState.IN_DOUBT:
            raise ApprovalNotInDoubt(candidate_id)
        return Approval.from_row(row), seen["version_seen"]


def _request(
    candidate_id: UUID, actor: Actor, expected: frozenset[int] | None, *, is_retry: bool, notify: bool = True
) -> ClaimRequest:
    key = uuid.uuid5(KEY_NAMESPACE, str(candidate_id))
    return ClaimRequest(candidate_id, key, uuid.uuid4(), actor, expected, is_retry=is_retry, notify=notify)


def _log(message: str, approval: Approval | Claim, **fields: object) -> None:
    extra = {"idempotency_key": str(approval.idempotency_key), "candidate_id": str(approval.candidate_id), **fields}
    logger.info(message, extra=extra)
