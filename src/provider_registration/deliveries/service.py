"""Claims messages for those who send them, records their outcomes, and lists them."""

from __future__ import annotations

from provider_registration.audit.models import Actor, AuditEvent, AuditType
from provider_registration.audit.service import record
from provider_registration.db.database import Database
from provider_registration.deliveries import queries
from provider_registration.deliveries.errors import (
    AlreadyDelivered,
    DeliveryInProgress,
    DeliveryNotFound,
    DeliveryTargetGone,
)
from provider_registration.deliveries.models import (
    WEBHOOK_DELETED,
    Delivery,
    DeliveryPage,
    Kind,
    ListedDelivery,
    Outcome,
    State,
)
from provider_registration.observability.metrics import DELIVERIES, OLDEST_DELIVERY_SECONDS
from provider_registration.web.pagination import MAX_ID

PRUNED_AT_ONCE = 1000
ENDED_AT_ONCE = 1000


class DeliveryService:
    """The queue of messages. No transaction is open while one is sent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due_targets(self, kind: Kind, *, limit: int) -> list[str]:
        """Targets of a kind with a message that is due, the one that waited longest first."""
        async with self._database.statement() as session:
            return list(await session.scalars(queries.LIST_DUE_TARGETS, {"kind": kind, "limit": limit}))

    async def claim(self, kind: Kind, target: str, *, limit: int, lease_seconds: float) -> list[Delivery]:
        """Lease at most `limit` messages to a target that are due; each counts as an attempt.

        The process that claims one records its outcome; after the lease, another process may claim it.
        """
        parameters = {"kind": kind, "target": target, "limit": limit, "lease_seconds": lease_seconds}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.CLAIM_DELIVERIES, parameters)).mappings().all()
        return [Delivery.from_row(row) for row in rows]

    async def record(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record the outcome of an attempt; nothing changes if its lease ended and another process took it over."""
        has_response = delivery.kind is Kind.WEBHOOK and outcome.error and outcome.status
        parameters = {
            "delivery_id": delivery.id,
            "lease_ends_at": delivery.lease_ends_at,
            "candidate_id": delivery.event.candidate_id if delivery.event and has_response else None,
            "state": outcome.state,
            "status": outcome.status,
            "error": outcome.error,
            "retry_after": outcome.retry_after or 0.0,
        }
        async with self._database.statement() as session:
            await session.execute(queries.RECORD_OUTCOME, parameters)
        DELIVERIES.labels(delivery.kind, "retried" if outcome.state is State.PENDING else outcome.state).inc()

    async def release(self, delivery: Delivery, *, error: str | None = None, seconds: float = 0.0) -> None:
        """Give back a message that was claimed but not tried, to be claimed in `seconds` or later."""
        parameters = {
            "delivery_id": delivery.id,
            "lease_ends_at": delivery.lease_ends_at,
            "error": error,
            "seconds": seconds,
        }
        async with self._database.statement() as session:
            await session.execute(queries.RELEASE_DELIVERY, parameters)

    async def retry(self, delivery_id: int, *, actor: Actor) -> None:
        """Have a message sent again, now and with all its attempts.

        Raises:
            DeliveryNotFound: there is none.
            AlreadyDelivered: it was delivered.
            DeliveryInProgress: it is being sent.
            DeliveryTargetGone: its webhook was deleted.
        """
        async with self._database.transaction() as session:
            before = (await session.execute(queries.RETRY_DELIVERY, {"delivery_id": delivery_id})).one_or_none()
            if before is None:
                raise DeliveryNotFound(delivery_id)
            if before.state == State.DELIVERED:
                raise AlreadyDelivered(delivery_id)
            if before.is_in_progress:
                raise DeliveryInProgress(delivery_id)
            if before.is_without_target:
                raise DeliveryTargetGone(delivery_id)
            data: dict[str, object] = {"delivery_id": str(delivery_id), "kind": before.kind}
            await record(session, AuditEvent(AuditType.DELIVERY_RETRIED, actor, data=data))

    async def page(
        self,
        *,
        limit: int,
        before: int | None = None,
        kind: Kind | None = None,
        target: str | None = None,
        state: State | None = None,
    ) -> DeliveryPage:
        """At most `limit` messages, newest first, from the one before the message with the ID `before`."""
        parameters = {
            "limit": limit + 1,
            "before": MAX_ID if before is None else before,
            "kinds": list(Kind) if kind is None else [kind],
            "states": list(State) if state is None else [state],
            **({} if target is None else {"target": target}),
        }
        query = queries.LIST_DELIVERIES if target is None else queries.LIST_DELIVERIES_TO
        async with self._database.statement() as session:
            rows = (await session.execute(query, parameters)).mappings().all()
        deliveries = [ListedDelivery.from_row(row) for row in rows[:limit]]
        return DeliveryPage(deliveries, deliveries[-1].id if len(rows) > limit else None)

    async def observe(self) -> None:
        """Set the metric of the message that has been tried for the longest time."""
        async with self._database.statement() as session:
            for row in await session.execute(queries.FIND_OLDEST, {"kinds": list(Kind)}):
                OLDEST_DELIVERY_SECONDS.labels(row.kind).set(row.seconds)

    async def end_without_webhook(self) -> bool:
        """End some messages to webhooks that were deleted; return whether there are more."""
        parameters = {"error": WEBHOOK_DELETED, "limit": ENDED_AT_ONCE}
        async with self._database.statement() as session:
            result = await session.execute(queries.END_WITHOUT_WEBHOOK, parameters)
        return int(result.rowcount) == ENDED_AT_ONCE  # type: ignore[attr-defined]  # of an UPDATE

    async def prune(self, days: int) -> bool:
        """Delete some messages that ended more than `days` ago; return whether there are more."""
        parameters = {"days": days, "limit": PRUNED_AT_ONCE}
        async with self._database.statement() as session:
            result = await session.execute(queries.PRUNE_DELIVERIES, parameters)
        return int(result.rowcount) == PRUNED_AT_ONCE  # type: ignore[attr-defined]  # of a DELETE
