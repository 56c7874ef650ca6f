"""The background task of every process that sends events to webhooks."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.deliveries.models import WEBHOOK_DELETED, Delivery, EventToSend, Kind, Outcome, State
from provider_registration.deliveries.service import DeliveryService
from provider_registration.encryption import SecretBox, SecretUnreadable
from provider_registration.failpoints import reach
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import (
    WEBHOOK_ATTEMPT_SECONDS,
    WEBHOOK_FAILING_SECONDS,
    WEBHOOKS,
)
from provider_registration.periodic import repeat
from provider_registration.webhooks import queries
from provider_registration.webhooks.messages import event_message
from provider_registration.webhooks.models import DisabledReason
from provider_registration.webhooks.sending import ATTEMPT_SECONDS, Response, Sender
from provider_registration.webhooks.service import MAX_WEBHOOKS, context_of, open_destination
from provider_registration.webhooks.signing import signed_headers

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks for due deliveries
LEASE_SECONDS = ATTEMPT_SECONDS * 4  # so that no other process takes over from one that is alive
AT_ONCE = 3  # deliveries to one webhook, in each process
STATEMENTS_AT_ONCE = 3  # so that requests find connections to the database
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
# Waits after each failed attempt: ten attempts within about three days.
WAITS = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
JITTER = 0.1  # up to this share is added
LONGEST_WAIT = DAY  # that a receiver can ask for by Retry-After
GONE = 410
WARNING_SECONDS = DAY  # of nothing but failures
DISABLING_SECONDS = 5 * DAY
NOTICE_SECONDS = DAY  # between the warning and disabling
GAP_SECONDS = 2 * DAY  # without attempts, after which a failure is the first of a new period
REPLAY_BATCH = 100  # events queued at once; new ones wait behind them
REPLAY_SCAN = 2000  # events read at once
STOP_SECONDS = 10.0  # for which shutdown waits for attempts
OBSERVE_SECONDS = 15.0
RESEAL_SECONDS = 60.0
KEY_SECONDS = 60.0  # between two attempts to decrypt a secret; another process may have its key
RANDOM = secrets.SystemRandom()

WEBHOOK_STATES = ("working", "failing", "disabled", "given_up")
LATER = "the database does not respond; webhooks will be sent later"
UNREADABLE = "the secret of a webhook cannot be decrypted; see SECRETS_KEY and SECRETS_PREVIOUS_KEY"


class Deliverer:
    """Sends due deliveries: each webhook has a task of its own, so that a slow one delays no other.

    `recipients`: how many of staff get an e-mail about a webhook that fails. `stop` it before the database.
    """

    def __init__(
        self, database: Database, deliveries: DeliveryService, box: SecretBox, sender: Sender, *, recipients: int
    ) -> None:
        self._database = database
        self._deliveries = deliveries
        self._box = box
        self._sender = sender
        self._recipients = recipients
        self._logger = RateLimitedLogger(logger)
        self._statements = asyncio.Semaphore(STATEMENTS_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_stopping = False

    async def look(self) -> bool:
        """Start a task for each webhook with due deliveries; return whether a replay goes on."""
        if due := await self._deliveries.due_targets(Kind.WEBHOOK, limit=2 * MAX_WEBHOOKS):
            async with self._database.statement() as session:
                found = {row.target: row.is_enabled for row in await session.execute(queries.LIST_TARGETS)}
            for target in due:
                if found.get(target) and target not in self._tasks:
                    task = self._tasks[target] = asyncio.create_task(self._serve(target))
                    task.add_done_callback(lambda _, target=target: self._tasks.pop(target))  # type: ignore[misc]
        try:
            async with self._database.transaction() as session:
                goes_on = await session.scalar(queries.REPLAY, {"batch": REPLAY_BATCH, "scan": REPLAY_SCAN})
                await reach("webhook.before-replay-commit")
        except IntegrityError:  # an event was removed meanwhile: the next look does not see it
            return True
        return bool(goes_on)

    async def observe(self) -> bool:
        """Update the metrics that come from the database."""
        async with self._database.statement() as session:
            row = (await session.execute(queries.SUMMARISE)).mappings().one()
        for state in WEBHOOK_STATES:
            WEBHOOKS.labels(state).set(row[state])
        WEBHOOK_FAILING_SECONDS.set(row["failing_seconds"])
        return False

    async def reseal(self) -> bool:
        """Encrypt with the current key what is still encrypted with the previous one; delete expired secrets."""
        async with self._database.statement() as session:
            await session.execute(queries.FORGET_PREVIOUS_SECRETS)
        async with self._database.transaction() as session:
            rows = (await session.execute(queries.LOCK_OLD_SECRETS, {"key_id": self._box.key_id})).mappings().all()
            for row in rows:
                resealed = {name: self._resealed(row["id"], row[name]) for name in ("secret", "previous_secret")}
                await session.execute(queries.REPLACE_SECRETS, {"webhook_id": row["id"], **resealed})
        return False

    def _resealed(self, webhook_id: UUID, sealed: bytes | None) -> bytes | None:
        if sealed is None or sealed.startswith(self._box.key_id):
            return sealed
        context = context_of(webhook_id)
        try:
            return self._box.seal(self._box.open(sealed, context=context), context=context)
        except SecretUnreadable:
            self._logger.warning(UNREADABLE, webhook_id=str(webhook_id))
            return sealed

    async def stop(self, stopping: asyncio.Event) -> None:
        """Once `stopping` is set, wait briefly for attempts; another process repeats the rest when its lease ends."""
        await stopping.wait()
        self._is_stopping = True
        if tasks := list(self._tasks.values()):
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, target: str) -> None:
        """Send what is due to one webhook, AT_ONCE at a time, until nothing is."""
        running: set[asyncio.Task[bool]] = set()
        takes_more = True  # false once an attempt shows that the webhook does not
        try:
            while True:
                if takes_more and not self._is_stopping:
                    running |= {asyncio.create_task(self._deliver(each)) for each in await self._claim(target, running)}
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                takes_more = takes_more and all(task.result() for task in done)
        finally:
            for task in running:
                task.cancel()

    async def _claim(self, target: str, running: Collection[object]) -> Sequence[Delivery]:
        try:
            async with self._statements:
                claimed = await self._deliveries.claim(
                    Kind.WEBHOOK, target, limit=AT_ONCE - len(running), lease_seconds=LEASE_SECONDS
                )
        except DatabaseUnavailable:
            self._logger.warning(LATER)
            return []
        except Exception:
            self._logger.exception("due deliveries of a webhook could not be claimed")
            return []
        await reach("webhook.after-claim-commit")
        return claimed

    async def _deliver(self, delivery: Delivery) -> bool:
        """Make one attempt and record it; return whether more can be sent to this webhook."""
        try:
            return await self._attempt(delivery)
        except DatabaseUnavailable:
            self._logger.warning(LATER)
        except Exception:
            self._logger.exception("sending to a webhook failed")
            with suppress(DatabaseUnavailable):  # then it is claimed again when its lease ends
                await self._finish(delivery, _later(delivery, "an unexpected error, which is in the service's log"))
        return False

    async def _attempt(self, delivery: Delivery) -> bool:
        webhook_id = UUID(delivery.target)
        async with self._statements, self._database.statement() as session:
            found = await session.execute(queries.FIND_DESTINATION, {"webhook_id": webhook_id})
            row = found.mappings().one_or_none()
        if row is None:
            await self._finish(delivery, Outcome(State.DEAD, WEBHOOK_DELETED))
            return False
        if not row["is_enabled"]:  # since it was claimed
            await self._release(delivery)
            return False
        try:
            destination = open_destination(webhook_id, row, self._box)
        except SecretUnreadable:
            self._logger.warning(UNREADABLE, webhook_id=delivery.target)
            await self._release(delivery, "the secret cannot be decrypted: see SECRETS_KEY", seconds=KEY_SECONDS)
            return False
        if delivery.event is None:  # every delivery of a webhook is about an event
            await self._finish(delivery, Outcome(State.DEAD, "there is no event"))
            return True
        body = await self._body(delivery.event)
        headers = signed_headers(str(delivery.event.id), int(time.time()), body, secrets=destination.secrets)
        await reach("webhook.before-send")
        with WEBHOOK_ATTEMPT_SECONDS.time():
            response = await self._sender.post(destination.url, headers, body)
        await reach("webhook.after-send")
        # The webhook first: if this process is killed in between, the attempt is repeated, and a 410 is not forgotten.
        takes_more = True
        if not response.is_success:
            takes_more = await self._note_failure(webhook_id, is_gone=response.status == GONE)
        elif destination.is_failing:
            async with self._statements, self._database.statement() as session:
                await session.execute(queries.RECORD_SUCCESS, {"webhook_id": webhook_id})
        await self._finish(delivery, _outcome(delivery, response))
        return takes_more

    async def _body(self, event: EventToSend) -> bytes:
        parameters = {"candidate_id": event.candidate_id, "sequence": event.sequence}
        async with self._statements, self._database.statement() as session:
            decision = (await session.execute(queries.FIND_DECISION, parameters)).mappings().one_or_none()
        return event_message(
            event_type=event.type,
            at=event.at,
            candidate_id=event.candidate_id,
            status=decision["status"] if decision else "pending",
            version=event.version,
            sequence=event.sequence,
            provider_id=event.data.get("provider_id") or (decision["provider_id"] if decision else None),
        )

    async def _finish(self, delivery: Delivery, outcome: Outcome) -> None:
        async with self._statements:
            await self._deliveries.record(delivery, outcome)
        await reach("webhook.after-record-commit")

    async def _release(self, delivery: Delivery, error: str | None = None, *, seconds: float = 0.0) -> None:
        async with self._statements:
            await self._deliveries.release(delivery, error=error, seconds=seconds)

    async def _note_failure(self, webhook_id: UUID, *, is_gone: bool) -> bool:
        """Record a failed attempt; warn staff, and days later disable the webhook. Return whether it is enabled."""
        parameters = {
            "webhook_id": webhook_id,
            "is_gone": is_gone,
            "gap_seconds": GAP_SECONDS,
            "warning_seconds": WARNING_SECONDS,
            "disabling_seconds": DISABLING_SECONDS,
            "notice_seconds": NOTICE_SECONDS,
            "recipients": self._recipients,
        }
        async with self._statements, self._database.statement() as session:
            row = (await session.execute(queries.RECORD_FAILURE, parameters)).one_or_none()
        if row is None:
            return False
        extra = {"webhook_id": str(webhook_id), "failing_since": row.failing_since}
        if row.disabled_reason is not None:
            logger.warning("webhook disabled", extra={**extra, "reason": DisabledReason(row.disabled_reason)})
        elif row.is_new_warning:
            logger.warning("webhook failing; after 5 days of nothing but failures it is disabled", extra=extra)
        return row.disabled_reason is None


def _outcome(delivery: Delivery, response: Response) -> Outcome:
    """What becomes of a delivery after an attempt."""
    if response.is_success:
        return Outcome(State.DELIVERED, status=response.status)
    error = response.error or f"status {response.status}" + (f": {response.text}" if response.text else "")
    if response.status == GONE:
        return Outcome(State.FAILED, error, response.status)
    return _later(delivery, error, status=response.status, at_least=min(response.retry_after, LONGEST_WAIT))


def _later(delivery: Delivery, error: str, *, status: int | None = None, at_least: float = 0.0) -> Outcome:
    """The next attempt, or the end if it was the last."""
    if delivery.attempts > len(WAITS):
        return Outcome(State.DEAD, error, status)
    wait = max(WAITS[delivery.attempts - 1], at_least) * (1 + JITTER * RANDOM.random())
    return Outcome(State.PENDING, error, status, wait)


async def keep_delivering(deliverer: Deliverer) -> None:
    """Send webhooks until cancelled."""
    limited = RateLimitedLogger(logger)

    async def keep(work: Callable[[], Awaitable[bool]], seconds: float) -> None:
        await repeat(work, seconds=seconds, logger=limited, later=LATER, failed="looking for due webhooks failed")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep(deliverer.look, LOOK_SECONDS))
        tasks.create_task(keep(deliverer.observe, OBSERVE_SECONDS))
        tasks.create_task(keep(deliverer.reseal, RESEAL_SECONDS))
