"""The operations on webhooks: create, change, delete, rotate, test, replay."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.audit.models import Actor, AuditEvent, AuditType, Subject
from provider_registration.audit.service import record
from provider_registration.db.database import Database
from provider_registration.deliveries.errors import DeliveryNotFound
from provider_registration.deliveries.models import DeliveryPage, Kind, State
from provider_registration.deliveries.service import DeliveryService
from provider_registration.encryption import SecretBox, SecretUnreadable
from provider_registration.web.pagination import MAX_ID
from provider_registration.webhooks import queries
from provider_registration.webhooks.addresses import AddressRules
from provider_registration.webhooks.errors import (
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
    WebhookSecretUnreadable,
    WebhooksOff,
)
from provider_registration.webhooks.messages import probe_message
from provider_registration.webhooks.models import Changes, Destination, NewSecret, ProbeResult, Webhook
from provider_registration.webhooks.sending import Sender
from provider_registration.webhooks.signing import new_secret, shown, signed_headers
from provider_registration.webhooks.urls import WebhookUrl

MAX_WEBHOOKS = 100  # each has tasks and connections of its own
ROTATION_HOURS = 24  # for which messages are also signed with the old secret


class WebhookService:
    """Manages webhooks. Without a key for their secrets every operation raises WebhooksOff."""

    def __init__(
        self,
        database: Database,
        deliveries: DeliveryService,
        box: SecretBox | None,
        rules: AddressRules,
        sender: Sender,
        *,
        allow_http: bool,
    ) -> None:
        self._database = database
        self._deliveries = deliveries
        self._key = box
        self._rules = rules
        self._sender = sender
        self._allow_http = allow_http

    @property
    def is_on(self) -> bool:
        """Whether webhooks can be used."""
        return self._key is not None

    @property
    def _box(self) -> SecretBox:
        if self._key is None:
            raise WebhooksOff
        return self._key

    async def list_all(self) -> list[Webhook]:
        """All webhooks, oldest first."""
        _ = self._box
        async with self._database.statement() as session:
            rows = await session.execute(queries.LIST_WEBHOOKS)
        return [Webhook.from_row(row) for row in rows.mappings()]

    async def get(self, webhook_id: UUID) -> Webhook:
        """One webhook.

        Raises:
            WebhookNotFound: there is none.
        """
        _ = self._box
        async with self._database.statement() as session:
            row = (await session.execute(queries.FIND_WEBHOOK, {"webhook_id": webhook_id})).mappings().one_or_none()
        return _found(webhook_id, row)

    async def create(self, url: str, types: tuple[str, ...], description: str, *, actor: Actor) -> NewSecret:
        """Add a webhook; it gets the events from now on.

        Raises:
            WebhookUrlRefused: nothing is sent to this URL.
            TooManyWebhooks: there are MAX_WEBHOOKS.
        """
        box, secret, webhook_id = self._box, new_secret(), uuid.uuid4()
        parameters = {
            "webhook_id": webhook_id,
            "url": self._checked(url),
            "types": list(types),
            "description": description,
            "secret": box.seal(secret, context=context_of(webhook_id)),
        }
        async with self._database.transaction() as session:
            await session.execute(queries.LOCK_WEBHOOKS)
            if (await session.scalar(queries.COUNT_WEBHOOKS) or 0) >= MAX_WEBHOOKS:
                raise TooManyWebhooks(MAX_WEBHOOKS)
            row = (await session.execute(queries.INSERT_WEBHOOK, parameters)).mappings().one()
            await _audit(session, AuditType.WEBHOOK_CREATED, webhook_id, actor, **_origin(row["url"]))
        return NewSecret(Webhook.from_row(row), shown(secret))

    async def change(self, webhook_id: UUID, changes: Changes, *, actor: Actor) -> Webhook:
        """Change a webhook, or disable or enable it; what stays the same is not recorded.

        Raises:
            WebhookNotFound: there is none.
            WebhookUrlRefused: nothing is sent to this URL.
        """
        _ = self._box
        if changes.url is not None:
            changes = replace(changes, url=self._checked(changes.url))
        parameters = {
            "webhook_id": webhook_id,
            "url": changes.url,
            "types": list(changes.types) if changes.types is not None else None,
            "description": changes.description,
            "enabled": changes.enabled,
        }
        async with self._database.transaction() as session:
            row = (await session.execute(queries.LOCK_WEBHOOK, parameters)).mappings().one_or_none()
            before = _found(webhook_id, row)
            if not (changed := changes.of(before)):
                return before
            row = (await session.execute(queries.UPDATE_WEBHOOK, parameters)).mappings().one()
            await _audit(
                session,
                AuditType.WEBHOOK_CHANGED,
                webhook_id,
                actor,
                fields=changed,
                **_origin(changes.url if "url" in changed else None),
            )
        return Webhook.from_row(row)

    async def delete(self, webhook_id: UUID, *, actor: Actor) -> None:
        """Delete a webhook; what is pending is never sent.

        Raises:
            WebhookNotFound: there is none.
        """
        _ = self._box
        async with self._database.transaction() as session:
            url = await session.scalar(queries.DELETE_WEBHOOK, {"webhook_id": webhook_id})
            if url is None:
                raise WebhookNotFound(webhook_id)
            await _audit(session, AuditType.WEBHOOK_DELETED, webhook_id, actor, **_origin(url))

    async def rotate_secret(self, webhook_id: UUID, *, actor: Actor) -> NewSecret:
        """Replace the secret; for ROTATION_HOURS messages are signed with both, unless the key of the first is lost.

        Raises:
            WebhookNotFound: there is none.
        """
        box, secret = self._box, new_secret()
        parameters = {
            "webhook_id": webhook_id,
            "secret": box.seal(secret, context=context_of(webhook_id)),
            "hours": ROTATION_HOURS,
        }
        async with self._database.transaction() as session:
            previous = await session.scalar(queries.LOCK_SECRET, parameters)
            if previous is None:
                raise WebhookNotFound(webhook_id)
            parameters |= {
                "previous_secret": previous if box.can_open(previous, context=context_of(webhook_id)) else None
            }
            row = (await session.execute(queries.ROTATE_SECRET, parameters)).mappings().one()
            await _audit(session, AuditType.WEBHOOK_SECRET_ROTATED, webhook_id, actor)
        return NewSecret(Webhook.from_row(row), shown(secret))

    async def replay(self, webhook_id: UUID, since: datetime, *, actor: Actor) -> Webhook:
        """Queue all events since a time once more, with their IDs; a background task does it.

        Raises:
            WebhookNotFound: there is none.
            WebhookDisabled: nothing would be sent.
        """
        if not (await self.get(webhook_id)).enabled:
            raise WebhookDisabled(webhook_id)
        parameters = {"webhook_id": webhook_id, "since": since}
        async with self._database.transaction() as session:
            await session.execute(queries.AWAIT_DISPATCHER)  # what it does not queue for this webhook, the replay finds
            row = (await session.execute(queries.START_REPLAY, parameters)).mappings().one_or_none()
            webhook = _found(webhook_id, row)
            await _audit(
                session,
                AuditType.WEBHOOK_REPLAYED,
                webhook_id,
                actor,
                since=since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            )
        return webhook

    async def test(self, webhook_id: UUID, *, actor: Actor) -> ProbeResult:
        """Send a test message now, once; also to a disabled webhook.

        Raises:
            WebhookNotFound: there is none.
            WebhookSecretUnreadable: its secret cannot be decrypted.
        """
        box = self._box
        async with self._database.transaction() as session:
            row = (await session.execute(queries.FIND_DESTINATION, {"webhook_id": webhook_id})).mappings().one_or_none()
            if row is None:
                raise WebhookNotFound(webhook_id)
            try:
                destination = open_destination(webhook_id, row, box)
            except SecretUnreadable:
                raise WebhookSecretUnreadable from None
            await _audit(session, AuditType.WEBHOOK_TESTED, webhook_id, actor)
        message_id, body = probe_message(webhook_id, datetime.now(UTC))
        headers = signed_headers(message_id, int(time.time()), body, secrets=destination.secrets)
        started = time.monotonic()
        response = await self._sender.post(destination.url, headers, body)
        return ProbeResult(
            delivered=response.is_success,
            status=response.status,
            response=response.text,
            error=response.error,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    async def deliveries(
        self, webhook_id: UUID, *, limit: int, before: int | None = None, state: State | None = None
    ) -> DeliveryPage:
        """At most `limit` deliveries of a webhook, newest first.

        Raises:
            WebhookNotFound: there is none.
        """
        await self.get(webhook_id)
        return await self._deliveries.page(
            limit=limit, before=before, kind=Kind.WEBHOOK, target=str(webhook_id), state=state
        )

    async def retry(self, webhook_id: UUID, delivery_id: int, *, actor: Actor) -> None:
        """Have a delivery sent again now, with all its attempts.

        Raises:
            WebhookNotFound, DeliveryNotFound: there is none.
            AlreadyDelivered, DeliveryInProgress, DeliveryTargetGone: as for DeliveryService.retry.
        """
        page = await self.deliveries(webhook_id, limit=1, before=min(delivery_id, MAX_ID - 1) + 1)
        if [delivery.id for delivery in page.deliveries] != [delivery_id]:
            raise DeliveryNotFound(delivery_id)
        await self._deliveries.retry(delivery_id, actor=actor)

    def _checked(self, url: str) -> str:
        return str(WebhookUrl.parse(url, rules=self._rules, allow_http=self._allow_http))


def context_of(webhook_id: UUID) -> str:
    """What the secrets of a webhook are bound to when they are encrypted."""
    return f"webhooks {webhook_id}"


def open_destination(webhook_id: UUID, row: RowMapping, box: SecretBox) -> Destination:
    """Make a destination from a row of FIND_DESTINATION.

    Raises:
        SecretUnreadable: a secret cannot be decrypted.
    """
    sealed = [row["secret"], *([row["previous_secret"]] if row["previous_secret"] is not None else [])]
    return Destination(
        webhook_id=webhook_id,
        url=WebhookUrl.stored(row["url"]),
        secrets=tuple(box.open(each, context=context_of(webhook_id)) for each in sealed),
        is_failing=row["is_failing"],
    )


def _found(webhook_id: UUID, row: RowMapping | None) -> Webhook:
    if row is None:
        raise WebhookNotFound(webhook_id)
    return Webhook.from_row(row)


async def _audit(session: AsyncSession, act: AuditType, webhook_id: UUID, actor: Actor, **data: object) -> None:
    """Record what staff did."""
    await record(session, AuditEvent(act, actor, Subject("webhook", webhook_id), data))


def _origin(url: str | None) -> dict[str, object]:
    """What is recorded of a URL, whose path and query may be secret; nothing if it did not change."""
    return {"origin": WebhookUrl.stored(url).origin} if url is not None else {}
