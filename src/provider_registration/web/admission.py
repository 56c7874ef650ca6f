"""What the connections of one server share: how many each address has, and which requests begin now."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import ClassVar, Self
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

# Requests that begin in one turn of the event loop: of a crowd that comes at once, each would take its time before
# anybody else's was looked at. A request takes up to 10 ms, most take less than 1 ms.
MAX_BEGUN_IN_A_TURN = 4


class Admission:
    """One server's; it is found by the state that uvicorn gives to each connection of that server."""

    _of_servers: ClassVar[WeakKeyDictionary[ServerState, Admission]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()  # by network; who has no connection is not in it
        self._waiting: deque[Callable[[], object]] = deque()  # requests: MAX_PIPELINED of a connection begin in turn
        self._begun = 0  # in this turn of the loop
        self._is_counting = False

    @classmethod
    def of(cls, server: ServerState) -> Self:
        """What this server's connections share."""
        return cls._of_servers.setdefault(server, cls())  # type: ignore[return-value]

    def leave(self, network: str) -> None:
        """Forget a connection of a network."""
        self.connections[network] -= 1
        if not self.connections[network]:
            del self.connections[network]

    def begin(self, request: Callable[[], object], *, at_once: bool) -> None:
        """Begin a request in this turn of the loop, or as soon as those that came before it have begun."""
        if at_once:
            request()
            return
        self._waiting.append(request)
        if not self._is_counting:
            self._is_counting = True
            self._begin_some()
        elif self._begun < MAX_BEGUN_IN_A_TURN:
            self._begin_next()

    def _begin_some(self) -> None:
        self._begun = 0
        if not self._waiting:
            self._is_counting = False
            return
        while self._waiting and self._begun < MAX_BEGUN_IN_A_TURN:
            self._begin_next()
        asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin_next(self) -> None:
        self._begun += 1
        self._waiting.popleft()()
