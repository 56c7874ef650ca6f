"""The background task of every process that works on jobs."""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import takewhile

from sqlalchemy import TextClause

from provider_registration.audit.models import SERVICE, Actor, AuditEvent, AuditType, Subject
from provider_registration.audit.service import record
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.errors import ServiceError, UnavailableError
from provider_registration.failpoints import reach
from provider_registration.jobs import queries
from provider_registration.jobs.errors import TryLater
from provider_registration.jobs.models import CancelReason, ClaimedJob, Item, Known, Result, WorkOnItem
from provider_registration.jobs.service import SUBJECT, JobService
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import JOB_ITEMS

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks for a job
JOBS_AT_ONCE = 2  # in each process
ITEMS_AT_ONCE = 4  # of each job
KNOWN_AT_ONCE = 200  # items that are looked at ahead for results that need no work
TURN_SECONDS = 2.0  # after which a job waits for the others that are due
LEASE_SECONDS = 30.0
LONGEST_SECONDS = 120.0  # of a lease, and of a wait
# Between the attempts at an item: about three minutes in all.
WAITS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0)
JITTER = 0.1  # up to this share is added
MAX_ATTEMPTS = len(WAITS) + 1
MAX_STARTS = 2 * MAX_ATTEMPTS  # of an item, counting those during which the process died
RECORDING_SHARE = 0.6  # of a lease, for which a result is kept while the database does not respond
STOP_SECONDS = 10.0  # for which shutdown waits for the items that were started
UNEXPECTED = "internal-error"  # code of an item that failed by an unexpected error
RANDOM = secrets.SystemRandom()


class JobRunner:
    """Works on due jobs: some at once, some items of each at once. `stop` it before the services of its kinds.

    `kinds`: by its name, what works on one item. `known`: for some kinds, what finds results without work.
    `may_act`: whether an actor may still do what a job does.
    """

    def __init__(
        self,
        database: Database,
        jobs: JobService,
        kinds: Mapping[str, WorkOnItem],
        *,
        known: Mapping[str, Known],
        may_act: Callable[[Actor], Awaitable[bool]],
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._kinds = kinds
        self._known = known
        self._may_act = may_act
        self._lease_seconds = lease_seconds
        self._logger = RateLimitedLogger(logger)
        self._turns: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def run(self) -> None:
        """Look for due jobs until cancelled, at once when this process creates one or can start another."""
        while True:
            try:
                while len(self._turns) < JOBS_AT_ONCE and not self._is_stopping and await self._start_turn():
                    pass
            except DatabaseUnavailable:
                self._logger.warning("the database does not respond; jobs will be worked on later")
            except Exception:
                self._logger.exception("no job could be started")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS * RANDOM.uniform(0.5, 1.5)):
                    await self._jobs.wake.wait()
            self._jobs.wake.clear()

    async def stop(self, stopping: asyncio.Event) -> None:
        """Once `stopping` is set, start no item, and wait briefly for those that were started."""
        await stopping.wait()
        self._is_stopping = True
        if self._turns:
            _, late = await asyncio.wait(self._turns, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _start_turn(self) -> bool:
        """Claim the job that has been due longest and start a turn of it; whether there was one."""
        parameters = {
            "claim_id": uuid.uuid4(),
            "lease_seconds": self._lease_seconds,
            "longest_seconds": LONGEST_SECONDS,
            "kinds": list(self._kinds),
        }
        async with self._database.statement() as session:
            row = (await session.execute(queries.CLAIM_JOB, parameters)).mappings().one_or_none()
        if row is None:
            return False
        await reach("job.after-claim-commit")
        kind, known = self._kinds[row["kind"]], self._known.get(row["kind"])
        turn = _Turn(self._database, ClaimedJob.from_row(row), kind, known, self._lease_seconds)
        task = asyncio.create_task(self._take(turn))
        self._turns.add(task)
        task.add_done_callback(self._end_turn)
        return True

    def _end_turn(self, task: asyncio.Task[None]) -> None:
        self._turns.discard(task)
        self._jobs.wake.set()

    async def _take(self, turn: _Turn) -> None:
        try:
            await turn.take(may_act=self._may_act, is_stopping=lambda: self._is_stopping)
        except DatabaseUnavailable:
            self._logger.warning("the database does not respond; the job is taken up again when its lease ends")
        except Exception:
            self._logger.exception("a job was interrupted; it is taken up again when its lease ends")


class _Turn:
    """Work on one job, until nothing is left, it was cancelled, or others wait."""

    def __init__(
        self, database: Database, job: ClaimedJob, work: WorkOnItem, known: Known | None, lease_seconds: float
    ) -> None:
        self._database = database
        self._job = job
        self._work = work
        self._known = known
        self._ahead: dict[int, Result | None] = {}  # results by number, in order, of items that were looked at ahead
        self._looked_at = -1  # the last number
        self._lease_seconds = lease_seconds
        self._keys = {"job_id": job.job_id, "claim_id": job.claim_id}
        self._running: set[asyncio.Task[bool]] = set()
        self._is_ours = True

    async def take(self, *, may_act: Callable[[Actor], Awaitable[bool]], is_stopping: Callable[[], bool]) -> None:
        """Start items as long as it is this job's turn, wait for them, then give the job back.

        If a result could not be recorded, the lease is left to run out: the next holder finds what was done.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + TURN_SECONDS
        try:
            try:
                while self._is_ours and not is_stopping() and loop.time() < ends:
                    if not await may_act(self._job.actor):
                        await self._cancel()
                    if await self._record_known():
                        continue
                    await self._start_items(min(ITEMS_AT_ONCE - len(self._running), self._to_work_on()))
                    if not self._running:
                        break
                    await self._wait(asyncio.FIRST_COMPLETED)
            finally:
                while self._running:
                    await self._wait(asyncio.ALL_COMPLETED)
        except asyncio.CancelledError:
            for task in self._running:
                task.cancel()
            raise
        if self._is_ours:
            await reach("job.before-release")
            async with self._database.statement() as session:
                await session.execute(queries.RELEASE_JOB, self._keys)

    async def _record_known(self) -> bool:
        """Record the results of the next items, up to the first that needs work; whether there were any."""
        if not self._ahead and self._known is not None:
            parameters: dict[str, object] = {"after": self._looked_at, "limit": KNOWN_AT_ONCE}
            async with self._database.statement() as session:
                rows = (await session.execute(queries.FIND_NEW_ITEMS, parameters | self._keys)).mappings()
                items = [Item(**row) for row in rows]
            if not items:
                self._known = None
                return False
            found = await self._known(self._job, items)
            self._ahead = {item.number: found.get(item.number) for item in items}
            self._looked_at = items[-1].number
        known = {number: result for number, result in takewhile(lambda each: each[1], self._ahead.items()) if result}
        if not known:
            return False
        await reach("job.before-record")
        parameters = self._keys | {
            "lease_seconds": self._lease_seconds,
            "numbers": list(known),
            "statuses": [result.status for result in known.values()],
            "codes": [result.code for result in known.values()],
        }
        async with self._database.statement() as session:
            is_recorded = await session.scalar(queries.RECORD_KNOWN, parameters) is not None
        if not is_recorded:
            self._known, self._ahead = None, {}
            return False
        await reach("job.after-record-commit")
        self._ahead = {number: result for number, result in self._ahead.items() if number not in known}
        for status, items_ in Counter(result.status for result in known.values()).items():
            JOB_ITEMS.labels(self._job.kind, status).inc(items_)
        return True

    def _to_work_on(self) -> int:
        """How many items come before the next one whose result is known."""
        if not any(self._ahead.values()):
            return ITEMS_AT_ONCE
        return sum(1 for _ in takewhile(lambda result: result is None, self._ahead.values()))

    async def _start_items(self, limit: int) -> None:
        parameters = self._keys | {
            "limit": limit,
            "lease_seconds": self._lease_seconds,
            "longest_seconds": LONGEST_SECONDS,
        }
        async with self._database.statement() as session:
            items = [Item(**row) for row in (await session.execute(queries.START_ITEMS, parameters)).mappings()]
        if items:
            await reach("job.after-start-commit")
        for item in items:
            self._ahead.pop(item.number, None)
        self._running |= {asyncio.create_task(self._work_on(item)) for item in items}

    async def _wait(self, until: str) -> None:
        """Wait for started items; extend the lease if they take long."""
        ended, self._running = await asyncio.wait(self._running, timeout=self._lease_seconds / 3, return_when=until)
        self._is_ours &= all(task.result() for task in ended)
        if not ended:
            parameters = self._keys | {"lease_seconds": self._lease_seconds}
            with suppress(DatabaseUnavailable):
                async with self._database.statement() as session:
                    self._is_ours &= await session.scalar(queries.EXTEND_LEASE, parameters) is not None

    async def _cancel(self) -> None:
        """Start no further item: the user or API key that posted the job may no longer decide."""
        parameters = {"job_id": self._job.job_id, "reason": str(CancelReason.ACTOR_NOT_ALLOWED)}
        async with self._database.transaction() as session:
            if await session.scalar(queries.CANCEL_JOB, parameters):
                about = {"kind": self._job.kind, "reason": str(CancelReason.ACTOR_NOT_ALLOWED)}
                event = AuditEvent(AuditType.JOB_CANCELLED, SERVICE, Subject(SUBJECT, self._job.job_id), {**about})
                await record(session, event)

    async def _work_on(self, item: Item) -> bool:
        """Work on an item and record its result, or put it off; whether that could be stored."""
        try:
            result = await self._result_of(item)
        except TryLater as later:
            if item.attempts >= min(later.attempts or MAX_ATTEMPTS, MAX_ATTEMPTS):
                result = Result.failed(later.code)
            else:
                wait = max(WAITS[item.attempts - 1], min(later.retry_after, WAITS[-1]))
                return await self._put_off(item, wait * (1 + RANDOM.uniform(0, JITTER)))
        await reach("job.before-record")
        parameters = {"number": item.number, "status": result.status, "code": result.code}
        is_stored = await self._store(queries.RECORD_RESULT, parameters | {"counted": result.code or result.status})
        if is_stored:
            JOB_ITEMS.labels(self._job.kind, result.status).inc()
            await reach("job.after-record-commit")
        return is_stored

    async def _result_of(self, item: Item) -> Result:
        """Work on an item.

        Raises:
            TryLater: it cannot be done now.
        """
        if item.attempts > MAX_STARTS:
            return Result.failed(UNEXPECTED)
        try:
            return await self._work(self._job, item)
        except UnavailableError as error:
            raise TryLater(error.code, retry_after=error.retry_after or 0.0) from error
        except ServiceError as error:
            return Result.failed(error.code)
        except TryLater:
            raise
        except Exception as error:
            fields = {"job_id": str(self._job.job_id), "number": item.number}
            logger.exception("an item of a job failed", extra=fields)
            raise TryLater(UNEXPECTED) from error

    async def _put_off(self, item: Item, seconds: float) -> bool:
        JOB_ITEMS.labels(self._job.kind, "put_off").inc()
        return await self._store(queries.PUT_OFF_ITEM, {"number": item.number, "wait_seconds": seconds})

    async def _store(self, statement: TextClause, parameters: dict[str, object]) -> bool:
        """Store the outcome of an item, even if the database does not respond for a while; whether it is stored.

        It is not if another process has taken the job over.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._lease_seconds * RECORDING_SHARE
        while True:
            try:
                async with self._database.statement() as session:
                    return await session.scalar(statement, parameters | self._keys) is not None
            except DatabaseUnavailable:
                if loop.time() > ends:
                    return False
                await asyncio.sleep(RANDOM.uniform(0.5, 1.0))
