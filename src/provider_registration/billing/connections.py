"""Connections to one server, kept alive and lent to one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

Around = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]

# Idle connections go before common servers close them, at 5 s: a request on a closed one would look ambiguous.
LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=4.0)


class Connections:
    """So many httpx transports, each of which holds at most one connection.

    httpx's own pool looks at each of its connections and at everybody who waits in every call, more than once.
    """

    def __init__(self, count: int, *, around: Around | None = None) -> None:
        """`around` may put something around each transport."""
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._around = around
        self._idle = [self._transport() for _ in range(count)]
        self._turns = asyncio.Semaphore(count)

    @asynccontextmanager
    async def borrow(self, patience: float) -> AsyncIterator[httpx.AsyncBaseTransport]:
        """The transport that was used last of those that nobody uses.

        Who fails in between gets rid of it: what state its connection is in is nobody's guess.

        Raises:
            httpx.PoolTimeout: none became free within `patience` seconds.
        """
        await self._turn(patience)
        transport = self._idle.pop()
        try:
            yield transport
        except BaseException:
            self._idle.append(self._transport())
            self._turns.release()
            await transport.aclose()
            raise
        self._idle.append(transport)
        self._turns.release()

    async def aclose(self) -> None:
        """Close every connection that nobody uses."""
        for transport in self._idle:
            await transport.aclose()

    async def _turn(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._turns.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"no connection became free within {patience:g} s") from None

    def _transport(self) -> httpx.AsyncBaseTransport:
        # Without the client around it, whose cookies, redirects and logins take a third of a call.
        transport = httpx.AsyncHTTPTransport(verify=self._tls, limits=LIMITS, trust_env=False)
        return self._around(transport) if self._around else transport
