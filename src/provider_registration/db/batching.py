"""Combines the work of concurrent callers into one statement; later callers wait for the next batch."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import inf
from typing import Generic, TypeVar

from provider_registration.db.database import DatabaseUnavailable, RowLocked
from provider_registration.errors import UnavailableError
from provider_registration.observability.callers import callers_var

MAX_ITEMS = 64  # in one batch
MAX_WAITING = 2048  # callers
MAX_SINGLE_ITEMS = 4  # concurrent items of a batch that failed as a whole
LAST_SHARE = 0.25  # of a caller's time limit, in which no work is started: it could finish after the caller was refused
LOCKED_SECONDS = 1.0  # during which callers that need the same row are refused immediately

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Call(Generic[Item, Result]):
    item: Item
    result: asyncio.Future[Result]
    until: float  # deadline of its caller, in the loop's time
    callers: tuple[object, ...]


class Batcher(Generic[Item, Result]):
    """Collects the items of concurrent callers; one batch runs at a time.

    A single caller does not wait. A batch starts after all its callers, so they see what they wrote before. An item
    that fails does not affect the others, and neither does a caller that leaves.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        time_limit: float | None,
        key: Callable[[Item], Hashable] | None = None,
        on_idle: Callable[[], object] = lambda: None,
    ) -> None:
        """`work` returns a result for each of 1 to MAX_ITEMS items, in order; `on_idle` is called when none is left.

        Callers wait at most `time_limit` seconds. Items with the same `key` need the same row.
        """
        self._work = work
        self._time_limit = inf if time_limit is None else time_limit
        self._key = key
        self._locked: dict[Hashable, float] = {}  # by the key of a locked row: until when its callers are refused
        self._on_idle = on_idle
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._batch: list[_Call[Item, Result]] = []  # running
        self._running: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None

    async def do(self, item: Item) -> Result:
        """Return the result for `item`.

        Raises:
            RowLocked: another transaction has locked a row that it needs.
            DatabaseUnavailable: too many callers are waiting, or it took too long; it may have been done.
            Exception: what `work` raises for this item.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise DatabaseUnavailable
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Call(item, result, loop.time() + self._time_limit, callers_var.get()))
        if self._running is None:
            # A batch belongs to no single request, so its log lines have no request ID.
            self._running = asyncio.create_task(self._run(), context=Context())
        elif self._watchdog is None:  # all earlier callers were refused while their batch is running
            self._watch()
        return await result

    async def _run(self) -> None:
        try:
            while self._take_batch():
                self._watch()
                await self._do_batch(self._batch)
        finally:
            self._stop_watching()
            self._running = None
            _fail([*self._batch, *self._waiting], DatabaseUnavailable())  # none, unless cancelled
            self._waiting.clear()
            self._on_idle()

    def _take_batch(self) -> bool:
        self._batch = []
        now = asyncio.get_running_loop().time()
        self._locked = {key: until for key, until in self._locked.items() if until > now}
        while self._waiting and len(self._batch) < MAX_ITEMS:
            call = self._waiting.popleft()
            if self._may_start(call):
                self._batch.append(call)
        return bool(self._batch)

    def _may_start(self, call: _Call[Item, Result]) -> bool:
        """Whether the caller is still waiting and has time left, and its row is not locked; otherwise refuse it."""
        if not call.result.done():
            if self._key is not None and self._locked and self._key(call.item) in self._locked:
                _fail([call], RowLocked())
            elif call.until - asyncio.get_running_loop().time() < self._time_limit * LAST_SHARE:
                _fail([call], DatabaseUnavailable())
        return not call.result.done()

    def _watch(self) -> None:
        """Schedule a check at the earliest deadline; callers are in order of their deadlines."""
        self._stop_watching()
        for call in chain(self._batch, self._waiting):
            if not call.result.done() and call.until < inf:
                self._watchdog = asyncio.get_running_loop().call_at(call.until, self._refuse_late)
                break

    def _stop_watching(self) -> None:
        if self._watchdog:
            self._watchdog.cancel()
            self._watchdog = None

    def _refuse_late(self) -> None:
        now = asyncio.get_running_loop().time()
        for call in chain(self._batch, self._waiting):
            if call.until > now:
                break
            if not call.result.done():
                call.result.set_exception(DatabaseUnavailable())
        self._watch()

    async def _do_batch(self, batch: Sequence[_Call[Item, Result]]) -> None:
        callers_var.set(tuple(chain.from_iterable(call.callers for call in batch)))
        try:
            values = await self._work([call.item for call in batch])
            for call, value in list(zip(batch, values, strict=True)):
                if not call.result.done():
                    call.result.set_result(value)
        except RowLocked as error:
            if len(batch) > 1:
                await self._do_each(batch)
            else:
                self._refuse_locked(batch[0], error)
        except UnavailableError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - the callers get any error
            if len(batch) == 1:
                if not batch[0].result.done():
                    batch[0].result.set_exception(error)
                return
            await self._do_each(batch)  # to find the item that fails

    async def _do_each(self, batch: Sequence[_Call[Item, Result]]) -> None:
        """Do each item separately, some at a time: one that waits for a row, or fails, does not block the others."""
        slots = asyncio.Semaphore(MAX_SINGLE_ITEMS)

        async def do_alone(call: _Call[Item, Result]) -> None:
            async with slots:
                if self._may_start(call):
                    await self._do_batch([call])

        await asyncio.gather(*map(do_alone, batch))

    def _refuse_locked(self, call: _Call[Item, Result], error: RowLocked) -> None:
        if self._key:
            self._locked[self._key(call.item)] = asyncio.get_running_loop().time() + LOCKED_SECONDS
        _fail([call], error)


def _fail(batch: Sequence[_Call[Item, Result]], error: UnavailableError) -> None:
    for call in batch:
        if not call.result.done():
            # One error raised in many places would collect all their tracebacks.
            call.result.set_exception(copy.copy(error))


class Sharer(Generic[Item, Result]):
    """Gives concurrent callers with the same item one result, computed after they called."""

    def __init__(self, work: Callable[[Item], Awaitable[Result]], *, time_limit: float | None) -> None:
        self._work = work
        self._time_limit = time_limit
        self._batchers: dict[Item, Batcher[None, Result]] = {}

    async def do(self, item: Item) -> Result:
        """Return the result for `item`; errors as from Batcher."""
        batcher = self._batchers.get(item)
        if batcher is None:
            forget = partial(self._batchers.pop, item)
            work = partial(self._do_for_all, item)
            batcher = self._batchers[item] = Batcher(work, time_limit=self._time_limit, on_idle=forget)
        return await batcher.do(None)

    async def _do_for_all(self, item: Item, callers: Sequence[None]) -> list[Result]:
        return [await self._work(item)] * len(callers)
