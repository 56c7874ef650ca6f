"""Shared by the connections of one server: the count for each network, and the order in which requests start."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import ClassVar, Self
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

# Requests that start in one iteration of the event loop: in a burst, all would run their first part before anything
# else. A request takes up to 10 ms, most take less than 1 ms.
MAX_STARTED_PER_ITERATION = 4


class Admission:
    """One for each server, found by the state that uvicorn passes to each of its connections."""

    _of_servers: ClassVar[WeakKeyDictionary[ServerState, Admission]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()  # by network, while it has connections
        self._waiting: deque[Callable[[], object]] = deque()  # requests, at most MAX_PIPELINED for each connection
        self._started = 0  # in this iteration
        self._is_counting = False

    @classmethod
    def of(cls, server: ServerState) -> Self:
        """The instance of a server."""
        return cls._of_servers.setdefault(server, cls())  # type: ignore[return-value]

    def leave(self, network: str) -> None:
        """Remove a connection of a network."""
        self.connections[network] -= 1
        if not self.connections[network]:
            del self.connections[network]

    def start(self, request: Callable[[], object], *, at_once: bool) -> None:
        """Start a request in this iteration of the loop, or after the requests before it have started."""
        if at_once:
            request()
            return
        self._waiting.append(request)
        if not self._is_counting:
            self._is_counting = True
            self._start_some()
        elif self._started < MAX_STARTED_PER_ITERATION:
            self._start_next()

    def _start_some(self) -> None:
        self._started = 0
        if not self._waiting:
            self._is_counting = False
            return
        while self._waiting and self._started < MAX_STARTED_PER_ITERATION:
            self._start_next()
        asyncio.get_running_loop().call_soon(self._start_some)

    def _start_next(self) -> None:
        self._started += 1
        self._waiting.popleft()()
