"""The counts of rate limits, in the memory of one process."""

from __future__ import annotations

import asyncio
import time

from limits.aio.storage import MemoryStorage

EXPIRY_SECONDS = 10.0  # between two removals of expired counts
AT_ONCE = 500  # counts that are checked before other work goes on


class CountsInMemory(MemoryStorage):
    """Removes expired counts every EXPIRY_SECONDS.

    The library's own storage checks the counts of all callers after each request, so many callers slow down every
    request.
    """

    def __init__(self) -> None:
        super().__init__(wrap_exceptions=True)
        self._next_look = 0.0

    async def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802 - overrides the library's, called after a count
        now = time.monotonic()  # a clock that is set does not postpone it
        if now >= self._next_look and (self.timer is None or self.timer.done()):
            self._next_look = now + EXPIRY_SECONDS
            self.timer = asyncio.create_task(self._expire())

    async def _expire(self) -> None:
        for number, key in enumerate([*self.expirations, *self.events], 1):
            now = time.time()
            events = self.events.get(key)
            while events and events[-1].expiry <= now:  # the oldest
                events.pop()
            if not events and self.expirations.get(key, 0.0) <= now:
                await self.clear(key)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
