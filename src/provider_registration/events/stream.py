"""Streams of events: one reader of the feed in each process serves all of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.events.errors import CursorExpired, CursorUnknown, TooManyStreams
from provider_registration.events.feed import Feed
from provider_registration.events.models import EventType, FeedEvent
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import EVENT_STREAMS

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # also how often a stream can end
REMEMBERED = 1000  # events; a stream that lags further behind reads the feed itself
PAGE = 100  # events that such a stream reads at a time
MAX_READING = 2  # streams that do so at the same time: the others wait, so that requests find a connection
MAX_STREAMS = 5  # of one session
WOKEN_AT_ONCE = 20  # streams, so that other requests come between them
RETRY_SECONDS = 30  # for a session with too many streams


class EventStreams:
    """The open streams, and the newest events for them."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._logger = RateLimitedLogger(logger)
        self._recent: deque[FeedEvent] = deque(maxlen=REMEMBERED)
        self._complete_after = 0  # `_recent` has every event after this position, up to `_position`
        self._position: int | None = None  # None while nobody listens
        self._waiting: list[asyncio.Future[None]] = []  # streams, for the next poll
        self._reading = asyncio.Semaphore(MAX_READING)
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def admit(self, credential_id: UUID) -> Iterator[None]:
        """Count a stream of a session while it is open.

        Raises:
            TooManyStreams: the session has MAX_STREAMS.
        """
        if self._open[credential_id] >= MAX_STREAMS:
            raise TooManyStreams(RETRY_SECONDS, MAX_STREAMS)
        self._open[credential_id] += 1
        EVENT_STREAMS.inc()
        try:
            yield
        finally:
            EVENT_STREAMS.dec()
            self._open[credential_id] -= 1
            if not self._open[credential_id]:
                del self._open[credential_id]

    async def run(self) -> None:
        """Read new events until cancelled, while there are streams."""
        while True:
            try:
                await self._poll()
            except DatabaseUnavailable:
                self._logger.warning("the database does not respond; streams of events are waiting")
            except Exception:
                self._logger.exception("events for streams could not be read")
            await self._wake()
            await asyncio.sleep(POLL_SECONDS)

    async def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number, stream in enumerate(waiting, 1):
            if not stream.done():  # cancelled
                stream.set_result(None)
            if number % WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _poll(self) -> None:
        if not self._open:
            self._position = None
            self._recent.clear()
            return
        if self._position is None:
            self._position = self._complete_after = await self._feed.last_position()
        while True:
            try:
                page = await self._feed.page(self._position, limit=REMEMBERED)
            except (CursorExpired, CursorUnknown):  # the database was restored
                self._position = None
                self._recent.clear()
                return
            if len(self._recent) + len(page.events) > REMEMBERED:
                dropped = len(self._recent) + len(page.events) - REMEMBERED
                known = [*self._recent, *page.events]
                self._complete_after = known[dropped - 1].position
            self._recent.extend(page.events)
            self._position = page.next
            if len(page.events) < REMEMBERED:
                return

    async def follow(
        self, position: int, types: Sequence[EventType]
    ) -> AsyncGenerator[tuple[int, Sequence[FeedEvent]], None]:
        """Events after a position as they come, each time with the position reached.

        It yields at every poll, with or without events, so that the caller can end it.

        Raises:
            CursorExpired: events after the position are not kept.
            CursorUnknown: it is no position yet.
        """
        while True:
            tick = asyncio.get_running_loop().create_future()
            self._waiting.append(tick)
            if self._position is not None and self._complete_after <= position <= self._position:
                events = self._newer(position)
                position = self._position
                yield position, [event for event in events if event.type in types]
                await tick
            else:
                async with self._reading:
                    page = await self._feed.page(position, limit=PAGE, types=types)
                is_behind = page.next > position
                position = page.next
                yield position, page.events
                if not is_behind:
                    await tick

    def _newer(self, position: int) -> list[FeedEvent]:
        newer: list[FeedEvent] = []
        for event in reversed(self._recent):
            if event.position <= position:
                break
            newer.append(event)
        return newer[::-1]
