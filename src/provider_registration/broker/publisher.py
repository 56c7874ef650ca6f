"""Publishes the feed of events to a broker, from a stored position.

Any number of processes may run it: the one that leases the position publishes a page of events and moves it. Events
may be published twice, when a process dies before it moves the position or loses its lease; they have the same ID.
"""

from __future__ import annotations

import asyncio
import logging
from uuid import uuid4

from provider_registration.broker import queries
from provider_registration.broker.errors import BrokerUnavailable
from provider_registration.broker.jetstream import JetStream
from provider_registration.broker.models import Message
from provider_registration.db.database import Database
from provider_registration.failpoints import reach
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import EVENTS_PUBLISHED, OLDEST_UNPUBLISHED_SECONDS
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

NAME = "nats"  # of the position
POLL_SECONDS = 1.0
PAGE = 500  # events published at a time
LEASE_SECONDS = 20.0  # longer than a page takes
MAX_PAUSE_SECONDS = 30.0  # after failures


class Publisher:
    """Publishes events that have a position, at least once each."""

    def __init__(self, database: Database, jetstream: JetStream, *, source: str) -> None:
        self._database = database
        self._jetstream = jetstream
        self._source = source
        self._logger = RateLimitedLogger(logger)
        self._mine = {"name": NAME, "holder": uuid4()}

    async def publish(self) -> bool:
        """Publish some events; return whether more are waiting.

        Raises:
            BrokerUnavailable: the broker stored none.
            DatabaseUnavailable: PostgreSQL does not respond; events that were published may be published again.
        """
        if not await self._observe():
            return False
        await self._jetstream.connect()
        async with self._database.statement() as session:
            parameters = {**self._mine, "lease_seconds": LEASE_SECONDS}
            claimed = (await session.execute(queries.CLAIM_POSITION, parameters)).one_or_none()
        if claimed is None:  # another process is publishing
            return False
        await reach("broker.after-claim-commit")
        if claimed.is_pruned:
            self._logger.warning("events were deleted before they were published")
        messages = await self._read(claimed.position)
        try:
            stored = await self._jetstream.publish(messages) if messages else 0
        except BrokerUnavailable:
            await self._release(claimed.position)  # so that another process can try at once
            raise
        await reach("broker.before-release")
        await self._release(messages[stored - 1].position if stored else claimed.position)
        await reach("broker.after-release-commit")
        EVENTS_PUBLISHED.inc(stored)
        return stored == PAGE

    async def _observe(self) -> bool:
        """Whether there are events to publish; sets the metric of their age."""
        async with self._database.statement() as session:
            found = (await session.execute(queries.FIND_AGE, {"name": NAME})).one_or_none()
            if found is None:
                await session.execute(queries.ADD_POSITION, {"name": NAME})
                return False
        OLDEST_UNPUBLISHED_SECONDS.set(found.seconds or 0)
        return found.seconds is not None

    async def _read(self, position: int) -> list[Message]:
        async with self._database.statement() as session:
            parameters = {"position": position, "limit": PAGE}
            rows = (await session.execute(queries.READ_EVENTS, parameters)).mappings().all()
        return [Message.from_row(row, source=self._source) for row in rows]

    async def _release(self, position: int) -> None:
        async with self._database.statement() as session:
            await session.execute(queries.RELEASE_POSITION, {**self._mine, "position": position})


async def keep_publishing(publisher: Publisher) -> None:
    """Publish events until cancelled."""
    limited = RateLimitedLogger(logger)
    pause = POLL_SECONDS

    async def work() -> bool:
        nonlocal pause
        try:
            has_more = await publisher.publish()
        except BrokerUnavailable as error:
            limited.warning("events cannot be published", reason=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
            return False
        pause = POLL_SECONDS
        return has_more

    later = "the database does not respond; events will be published later"
    await repeat(work, seconds=POLL_SECONDS, logger=limited, later=later, failed="events could not be published")
