"""Sends e-mails: what a delivery is about becomes a letter, and the mail server's answer its outcome."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from uuid import UUID

from sqlalchemy import TextClause

from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.deliveries.models import WEBHOOK_DELETED, Delivery, Kind, Outcome, State
from provider_registration.deliveries.service import DeliveryService
from provider_registration.events.models import EventType
from provider_registration.failpoints import reach
from provider_registration.notifications import queries
from provider_registration.notifications.composing import Composer, message_id_of
from provider_registration.notifications.errors import (
    MailDeferred,
    MailError,
    MailRefused,
    MailServerUnavailable,
    MailUncertain,
)
from provider_registration.notifications.mail_server import LEASE_SECONDS, Connection, MailServer
from provider_registration.notifications.models import (
    STAFF,
    Applicant,
    Letter,
    Message,
    NewApplication,
)
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import MAIL_OUTAGE_SECONDS
from provider_registration.web.text import canonical_email

logger = logging.getLogger(__name__)

# Between the attempts at an e-mail that the server does not accept yet: 24 h in all.
WAITS = (60, 300, 900, 3600, 10_800, 27_000, 43_200)  # seconds
JITTER = secrets.SystemRandom()
MAILS_PER_CONNECTION = 50  # servers limit them too
CONNECTIONS = 3  # of a process, while many e-mails wait
TARGETS = 20
LONGEST_PAUSE = 60.0  # seconds between two connections, while the server refuses them
RECORDING_SECONDS = 60.0  # for which an outcome is kept while the database does not respond
STOP_SECONDS = 8.0  # for which a stop waits for the e-mail under way
STOP_RECORDING_SECONDS = 2.0  # for which it then waits until the outcome of an e-mail without a reply is recorded
SHOWN = 50  # applications in a digest
COUNTED = 10_000  # applications of a digest; beyond, it only says that there are more
PERIODS = {
    "daily": ("day", timedelta(hours=6)),  # they begin at 06:00 UTC
    "hourly": ("hour", timedelta()),
    "each": ("hour", timedelta()),
}
MESSAGES = {
    EventType.REGISTERED: Message.RECEIVED,
    EventType.APPROVED: Message.APPROVED,
    EventType.REJECTED: Message.REJECTED,
}


@dataclass(frozen=True, slots=True)
class Correspondence:
    """What e-mails contain besides the application, and which staff get them.

    `status_pages`: the URL to which a secret is added for the page of a company. `console`: the URL of the pages of
    staff. If empty, e-mails have no such links. `staff_digest`: how often `staff` get the new applications.
    """

    status_pages: str = ""
    console: str = ""
    staff: Sequence[str] = ()
    staff_digest: str = "daily"

    @property
    def subscriptions(self) -> list[TextClause]:
        """The dispatcher's statements that make deliveries of these e-mails."""
        if self.staff_digest == "each" and self.staff:
            return [queries.SUBSCRIBE, queries.SUBSCRIBE_STAFF.bindparams(recipients=len(self.staff))]
        return [queries.SUBSCRIBE]


class NotificationService:
    """Sends the e-mails that are due, and has lost links sent."""

    def __init__(
        self,
        database: Database,
        deliveries: DeliveryService,
        candidates: CandidateService,
        *,
        composer: Composer,
        server: MailServer,
        correspondence: Correspondence,
    ) -> None:
        self._database = database
        self._deliveries = deliveries
        self._candidates = candidates
        self._composer = composer
        self._server = server
        self._correspondence = correspondence
        self._logger = RateLimitedLogger(logger)
        self._connections = 1
        self._failing_since: float | None = None
        self._paused_until = 0.0

    async def request_link(self, contact_email: str) -> None:
        """Have a link to its application sent to the company with this address, if there is one."""
        async with self._database.statement() as session:
            await session.execute(queries.REQUEST_LINK, {"email_canonical": canonical_email(contact_email)})

    async def make_digest(self) -> None:
        """Have the new applications sent to staff, if the time has come."""
        if not self._correspondence.staff:
            return
        period, offset = PERIODS[self._correspondence.staff_digest]
        recipients = 0 if self._correspondence.staff_digest == "each" else len(self._correspondence.staff)
        async with self._database.statement() as session:
            await session.execute(queries.START_DIGEST)
        async with self._database.statement() as session:
            await session.execute(queries.MAKE_DIGEST, {"period": period, "offset": offset, "recipients": recipients})

    async def send_due(self) -> bool:
        """Send e-mails that are due, over one connection or, if many wait, several; return whether more are due.

        While the mail server cannot be used, e-mails stay as they are, without an attempt.
        """
        if monotonic() < self._paused_until:
            return False
        targets = await self._deliveries.due_targets(Kind.EMAIL, limit=TARGETS)
        if not targets:
            self._note_connection()  # others have sent what this process could not
            return False
        sending = (self._send_some(targets) for _ in range(self._connections))
        results = await asyncio.gather(*sending, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        has_more = True in results
        self._connections = CONNECTIONS if has_more else 1
        return has_more

    async def _send_some(self, targets: Sequence[str]) -> bool:
        """Send e-mails over one connection; return whether more may be due."""
        try:
            async with self._server.connect() as connection:
                self._note_connection()
                for sent in range(MAILS_PER_CONNECTION):
                    if not connection.is_open and not sent:
                        raise MailServerUnavailable("it closed the connection")  # noqa: TRY301 - as if it had refused it
                    if not connection.is_open:
                        return True
                    delivery = await self._claim(targets)
                    if delivery is None:
                        return False
                    await reach("mail.after-claim-commit")
                    await _to_the_end(self._send(delivery, connection))
                return True
        except MailServerUnavailable as error:
            self._note_connection(error)
            return False

    async def _claim(self, targets: Sequence[str]) -> Delivery | None:
        for target in targets:
            claimed = await self._deliveries.claim(Kind.EMAIL, target, limit=1, lease_seconds=LEASE_SECONDS)
            if claimed:
                return claimed[0]
        return None

    def _note_connection(self, error: MailServerUnavailable | None = None) -> None:
        now = monotonic()
        if error is None:
            self._failing_since, self._paused_until = None, 0.0
            MAIL_OUTAGE_SECONDS.set(0)
            return
        self._failing_since = self._failing_since or now
        outage = now - self._failing_since
        self._paused_until = now + min(LONGEST_PAUSE, outage)
        MAIL_OUTAGE_SECONDS.set(max(outage, 1.0))
        self._logger.warning("the mail server cannot be used; e-mails will be sent later", reason=str(error))

    async def _send(self, delivery: Delivery, connection: Connection) -> None:
        letter = None
        try:
            letter = await self._letter_of(delivery)
            mail = self._composer.compose(letter, message_id_of(delivery.id, delivery.created_at))
            await reach("mail.before-send")
            await connection.send(mail)
            await reach("mail.after-send")
            outcome = Outcome(State.DELIVERED)
        except MailUncertain as error:
            outcome = Outcome(State.UNKNOWN, str(error))
        except MailDeferred as error:
            outcome = _deferred(delivery, error)
        except MailRefused as error:
            outcome = Outcome(State.FAILED, str(error), error.status)
        except ValueError:  # its message may have the address
            outcome = Outcome(State.FAILED, "the e-mail address cannot be used")
        except DatabaseUnavailable:
            raise
        except Exception as error:  # else it would be claimed again and again
            self._logger.exception("an e-mail could not be sent")
            connection.close()
            outcome = _deferred(delivery, MailDeferred(f"unexpected error: {type(error).__name__}"))
        if letter and letter.secret and outcome.state not in (State.DELIVERED, State.UNKNOWN):
            await self._candidates.end_status_link(letter.secret)  # nobody got it
        await self._record(delivery, outcome)

    async def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record the outcome, even if the database does not respond for a while: else the e-mail is sent twice."""
        extra = {"delivery_id": delivery.id, "target": delivery.target, "attempt": delivery.attempts}
        level = logging.INFO if outcome.state is State.DELIVERED else logging.WARNING
        logger.log(level, "e-mail %s", outcome.state, extra=extra | {"reason": outcome.error})
        ends = monotonic() + RECORDING_SECONDS
        while True:
            try:
                await self._deliveries.record(delivery, outcome)
            except DatabaseUnavailable:
                if monotonic() > ends:
                    raise
                await asyncio.sleep(1)
            else:
                return await reach("mail.after-record-commit")

    async def _letter_of(self, delivery: Delivery) -> Letter:
        """What to write.

        Raises:
            MailRefused: there is nothing to write about any more, or no such address in the setting.
        """
        kind, _, number = delivery.target.partition(":")
        if kind == STAFF:
            if int(number) > len(self._correspondence.staff):
                raise MailRefused("STAFF_MAIL_TO has no such address any more")
            address = self._correspondence.staff[int(number) - 1]
            about_webhook = "webhook_id" in delivery.data
            return await (self._about_webhook if about_webhook else self._digest)(delivery, address)
        event = delivery.event
        candidate_id = event.candidate_id if event else UUID(delivery.data["candidate_id"])
        message = MESSAGES[EventType(event.type)] if event else Message.LINK
        async with self._database.statement() as session:
            rows = await session.execute(queries.FIND_APPLICANT, {"candidate_id": candidate_id})
            row = rows.mappings().one_or_none()
        status_pages = self._correspondence.status_pages
        secret = await self._candidates.add_status_link(candidate_id) if row and status_pages else None
        if row is None or (status_pages and secret is None):
            raise MailRefused("the personal data was erased")
        applicant = Applicant.from_row(row)
        values = {
            "link": f"{status_pages}/{secret}" if secret else None,
            "company_name": applicant.company_name,
            "reason": applicant.rejection_reason,
        }
        return Letter(message, applicant.contact_email, applicant.language, values, secret)

    async def _about_webhook(self, delivery: Delivery, address: str) -> Letter:
        webhook_id = delivery.data["webhook_id"]
        async with self._database.statement() as session:
            host = await session.scalar(queries.FIND_WEBHOOK_HOST, {"webhook_id": UUID(webhook_id)})
        if host is None:
            raise MailRefused(WEBHOOK_DELETED)
        console = self._correspondence.console
        values = {
            "host": host,
            "disabled_reason": delivery.data["disabled_reason"],
            "at": delivery.created_at,
            "link": f"{console}/webhooks/{webhook_id}" if console else None,
        }
        return Letter(Message.WEBHOOK, address, None, values)

    async def _digest(self, delivery: Delivery, address: str) -> Letter:
        async with self._database.transaction() as session:
            positions = {"after": delivery.data["after"], "until": delivery.data["until"]}
            parameters = {**positions, "limit": SHOWN, "most": COUNTED}
            rows = (await session.execute(queries.FIND_NEW_APPLICATIONS, parameters)).mappings()
            newest = [NewApplication.from_row(row) for row in rows]
            pending = await session.scalar(queries.COUNT_PENDING)
        if not newest:
            raise MailRefused("the personal data was erased")
        console = self._correspondence.console
        values = {
            "newest": [
                {
                    "text": new.company_name,
                    "at": new.created_at,
                    "url": f"{console}/candidates/{new.candidate_id}" if console else None,
                }
                for new in newest
            ],
            "total": min(newest[0].total, COUNTED),
            "has_more": newest[0].total > COUNTED,
            "pending": pending,
            "link": f"{console}/candidates" if console else None,
        }
        return Letter(Message.DIGEST, address, None, values)


def _deferred(delivery: Delivery, error: MailError) -> Outcome:
    if delivery.attempts > len(WAITS):
        return Outcome(State.DEAD, str(error), error.status)
    wait = WAITS[delivery.attempts - 1] * JITTER.uniform(0.95, 1.05)
    return Outcome(State.PENDING, str(error), error.status, retry_after=wait)


async def _to_the_end(sending: Coroutine[None, None, None]) -> None:
    """Wait for an e-mail; if this task is cancelled meanwhile, for STOP_SECONDS: one cut off would be sent twice."""
    task = asyncio.create_task(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        for seconds in (STOP_SECONDS, STOP_RECORDING_SECONDS):
            await asyncio.wait({task}, timeout=seconds)
            task.cancel()
        raise
