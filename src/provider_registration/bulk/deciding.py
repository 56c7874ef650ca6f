"""Decides one candidate of a job, by the services behind the endpoints for one candidate."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from provider_registration.approvals.errors import ProviderNameBusy
from provider_registration.approvals.service import ApprovalService
from provider_registration.bulk import queries
from provider_registration.bulk.models import APPROVE, REJECT
from provider_registration.candidates.errors import (
    ApprovalInProgress,
    CandidateChanged,
    CandidateNotPending,
    VersionMismatch,
)
from provider_registration.candidates.models import Status
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database
from provider_registration.jobs.errors import TryLater
from provider_registration.jobs.models import ClaimedJob, Item, Known, Result, WorkOnItem

PAUSED = "billing-paused"
# For an approval of another candidate with the same name, which may be in the same job.
BUSY_ATTEMPTS = 4
DECIDED = (CandidateNotPending, VersionMismatch, CandidateChanged)


class Deciding:
    """Works on the items of jobs.

    The process may have died after a decision and before its result was recorded. Then the next attempt is refused, and
    the event of the decision, which names the job, shows that it was this job's.
    """

    def __init__(self, database: Database, candidates: CandidateService, approvals: ApprovalService) -> None:
        self._database = database
        self._candidates = candidates
        self._approvals = approvals

    @property
    def kinds(self) -> dict[str, WorkOnItem]:
        """What works on the items of each kind of job."""
        return {APPROVE: self.approve, REJECT: self.reject}

    @property
    def known(self) -> dict[str, Known]:
        """What finds the refusals of each kind of job."""
        return {APPROVE: self.refusals, REJECT: self.refusals}

    async def refusals(self, _job: ClaimedJob, items: Sequence[Item]) -> dict[int, Result]:
        """The results of the items that cannot be decided any more. None was started, so none is this job's doing."""
        numbers = {_candidate_of(item): item.number for item in items}
        refused = await self._candidates.final_refusals({_candidate_of(item): item.version for item in items})
        return {numbers[candidate_id]: Result.failed(error.code) for candidate_id, error in refused.items()}

    async def approve(self, job: ClaimedJob, item: Item) -> Result:
        """Approve a candidate. One that billing has not confirmed gets the error, and is completed without the job.

        Raises:
            TryLater: calls to billing are paused, or an approval is in progress.
            ServiceError: as `ApprovalService.approve`.
        """
        candidate_id = _candidate_of(item)
        if seconds := self._approvals.billing_pause:  # before a request is recorded that cannot succeed now
            raise TryLater(PAUSED, retry_after=seconds)
        try:
            await self._approvals.approve(
                candidate_id,
                actor=job.actor,
                expected=_expected(item),
                notify=job.parameters["notify"],
                job_id=job.job_id,
            )
        except ProviderNameBusy as error:
            raise TryLater(error.code, attempts=BUSY_ATTEMPTS) from error
        except (*DECIDED, ApprovalInProgress) as error:
            keys = {"candidate_id": candidate_id, "job_id": str(job.job_id)}
            async with self._database.statement() as session:
                found = (await session.execute(queries.FIND_REQUESTED, keys)).one_or_none()
            if found is None or not found.is_ours:
                raise
            if found.status != Status.APPROVED:
                if isinstance(error, ApprovalInProgress):  # by the process that died, or by the sweep
                    raise TryLater(error.code) from error
                raise
        return Result(Status.APPROVED)

    async def reject(self, job: ClaimedJob, item: Item) -> Result:
        """Reject a candidate.

        Raises:
            ServiceError: as `CandidateService.reject`.
        """
        candidate_id = _candidate_of(item)
        try:
            await self._candidates.reject(
                candidate_id,
                actor=job.actor,
                reason=job.parameters["reason"],
                expected=_expected(item),
                notify=job.parameters["notify"],
                job_id=job.job_id,
            )
        except DECIDED:
            keys = {"candidate_id": candidate_id, "job_id": str(job.job_id)}
            async with self._database.statement() as session:
                if not await session.scalar(queries.HAS_REJECTED, keys):
                    raise
        return Result(Status.REJECTED)


def _candidate_of(item: Item) -> UUID:
    if item.candidate_id is None:
        raise TypeError("an item without a candidate")
    return item.candidate_id


def _expected(item: Item) -> frozenset[int] | None:
    return frozenset({item.version}) if item.version is not None else None
