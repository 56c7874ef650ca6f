"""Connections to one server, kept alive and used by one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

Around = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]

# Close idle connections before common servers do, at 5 s: a request on a closed connection would look ambiguous.
LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=4.0)


class Connections:
    """A fixed number of httpx transports, each of which holds at most one connection.

    With httpx.AsyncClient and its pool, an approval takes 1.5 to 2 times the CPU time: the pool examines all of its
    connections and requests several times per call.
    """

    def __init__(self, count: int, *, around: Around | None = None) -> None:
        """`around` may wrap each transport."""
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._around = around
        self._idle = [self._transport() for _ in range(count)]
        self._turns = asyncio.Semaphore(count)

    @asynccontextmanager
    async def borrow(self, patience: float) -> AsyncIterator[httpx.AsyncBaseTransport]:
        """Lend the most recently used free transport.

        After an error it is replaced: its connection may be in any state.

        Raises:
            httpx.PoolTimeout: none became free within `patience` seconds.
        """
        try:
            async with asyncio.timeout(patience):
                await self._turns.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"no connection became free within {patience:g} s") from None
        used = free = self._idle.pop()
        try:
            yield used
        except BaseException:
            free = self._transport()
            raise
        finally:
            self._idle.append(free)
            self._turns.release()
            if free is not used:
                await used.aclose()

    async def aclose(self) -> None:
        """Close every connection that is not in use."""
        for transport in self._idle:
            await transport.aclose()

    def _transport(self) -> httpx.AsyncBaseTransport:
        transport = httpx.AsyncHTTPTransport(verify=self._tls, limits=LIMITS, trust_env=False)
        return self._around(transport) if self._around else transport
