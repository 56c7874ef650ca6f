"""Doing many callers' work in one statement: whoever comes while one is under way waits for the next."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Generic, TypeVar

from provider_registration.database import DatabaseUnavailable
from provider_registration.errors import UnavailableError

MAX_ITEMS = 64  # in one batch
MAX_WAITING = 2048  # callers
MAX_SECONDS = 5.0  # that a caller waits

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers what callers ask for at the same time; one batch is under way at a time.

    A caller that is alone does not wait. A batch begins after all of its callers asked, so everyone reads what they
    wrote before. An item that cannot be done fails alone, and a caller that leaves takes nothing from the others.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        on_idle: Callable[[], object] = lambda: None,
    ) -> None:
        """`work` gives a result for each of 1 to MAX_ITEMS items, in their order; `on_idle` hears when all is done."""
        self._work = work
        self._on_idle = on_idle
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle

    async def do(self, item: Item) -> Result:
        """The result for `item`.

        Raises:
            DatabaseUnavailable: too many are waiting already, or it took too long; whether it was done then is unknown.
            Exception: what `work` raises for this item.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise DatabaseUnavailable
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._running is None:
            # A batch belongs to no single request, so none's id stands in what is logged about it.
            self._running = asyncio.create_task(self._run(), context=Context())
        return await result

    async def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._watch(batch)
                await self._do_batch(batch)
                self._watchdog.cancel()
        finally:
            self._running = None
            self._on_idle()

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < MAX_ITEMS:
            item, result = self._waiting.popleft()
            if not result.done():  # its caller is still there
                batch.append((item, result))
        return batch

    def _watch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        self._watchdog = asyncio.get_running_loop().call_later(MAX_SECONDS, self._refuse_everyone, batch)

    def _refuse_everyone(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        """Let nobody wait longer, neither for a batch that takes too long nor behind it."""
        for _, result in (*batch, *self._waiting):
            if not result.done():
                result.set_exception(DatabaseUnavailable())
        self._watch(batch)

    async def _do_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            values = await self._work([item for item, _ in batch])
            for (_, result), value in list(zip(batch, values, strict=True)):
                if not result.done():
                    result.set_result(value)
        except UnavailableError as error:
            for _, result in batch:
                if not result.done():
                    result.set_exception(copy.copy(error))  # one error raised in many places gathers their tracebacks
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for the callers
            if len(batch) == 1:
                _, result = batch[0]
                if not result.done():
                    result.set_exception(error)
                return
            for pair in batch:  # which of them cannot be done shows when each is alone
                await self._do_batch([pair])


class Sharer(Generic[Item, Result]):
    """Gives callers who ask for the same thing at the same time one result, which was looked for after they asked."""

    def __init__(self, work: Callable[[Item], Awaitable[Result]]) -> None:
        self._work = work
        self._batchers: dict[Item, Batcher[None, Result]] = {}

    async def do(self, item: Item) -> Result:
        """The result for `item`; errors as from Batcher."""
        batcher = self._batchers.get(item)
        if batcher is None:
            forget = partial(self._batchers.pop, item)
            batcher = self._batchers[item] = Batcher(partial(self._do_for_all, item), on_idle=forget)
        return await batcher.do(None)

    async def _do_for_all(self, item: Item, callers: Sequence[None]) -> list[Result]:
        return [await self._work(item)] * len(callers)
