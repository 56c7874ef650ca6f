"""Numbers the events that are committed, in an order that readers can rely on, and makes their deliveries.

Any number of processes may run it: the one that locks the row of event_dispatcher is the dispatcher until it commits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import TextClause

from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.events import queries
from provider_registration.failpoints import reach
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import EVENTS_DISPATCHED, LAST_DISPATCH_TIMESTAMP
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

DISPATCH_SECONDS = 0.5  # between two looks into an empty queue
BATCH = 500  # events in one transaction, at most: many webhooks make many deliveries of each
GROWTH = 10  # events more after each transaction, if a batch was too large for the time limit


class Dispatcher:
    """Gives committed events their positions, once each.

    A subscription is a statement that inserts the deliveries of the events with positions from :first to :last.
    """

    def __init__(self, database: Database, subscriptions: Sequence[TextClause]) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._batch = BATCH

    async def dispatch(self) -> bool:
        """Number some events; return whether more are waiting.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond; what was not committed is numbered later.
        """
        async with self._database.statement() as session:
            if not await session.scalar(queries.HAS_QUEUED_EVENTS):
                return False
        try:
            taken = await self._dispatch_at_most(self._batch)
        except DatabaseUnavailable:
            self._batch = max(1, self._batch // 2)  # it may have been too large for the time limit
            raise
        has_more = taken == self._batch
        self._batch = min(BATCH, self._batch + GROWTH)
        return has_more

    async def _dispatch_at_most(self, limit: int) -> int:
        """Number at most `limit` events; return how many left the queue."""
        async with self._database.transaction() as session:
            last = await session.scalar(queries.LOCK_DISPATCHER)
            if last is None:  # another process is the dispatcher, or the migration is still numbering older events
                return 0
            count = (await session.execute(queries.NUMBER_EVENTS, {"last": last, "limit": limit})).one()
            for subscription in self._subscriptions:
                await session.execute(subscription, {"first": last + 1, "last": last + count.numbered})
            await reach("dispatch.before-commit")
        await reach("dispatch.after-commit")
        EVENTS_DISPATCHED.inc(count.numbered)
        return int(count.taken)


async def keep_dispatching(dispatcher: Dispatcher) -> None:
    """Number events until cancelled."""
    limited = RateLimitedLogger(logger)
    LAST_DISPATCH_TIMESTAMP.set_to_current_time()

    async def dispatch() -> bool:
        has_more = await dispatcher.dispatch()
        LAST_DISPATCH_TIMESTAMP.set_to_current_time()
        return has_more

    later = "the database does not respond; events will be dispatched later"
    await repeat(
        dispatch, seconds=DISPATCH_SECONDS, logger=limited, later=later, failed="events could not be dispatched"
    )
