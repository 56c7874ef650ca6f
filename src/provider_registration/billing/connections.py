"""Connections to one server, kept alive and used by one request at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

Wrap = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]

# Close idle connections before common servers do, at 5 s: a request on a closed connection would look ambiguous.
LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=4.0)


class Connections:
    """A fixed number of httpx transports, each of which holds at most one connection.

    With httpx.AsyncClient and its pool, an approval takes 1.5 to 2 times the CPU time: the pool examines all of its
    connections and requests several times per call.
    """

    def __init__(self, count: int, *, wrap: Wrap | None = None) -> None:
        """`wrap` is applied to each transport, for tracing."""
        self._tls = _tls()
        self._wrap = wrap
        self._idle = [self._transport() for _ in range(count)]
        self._turns = asyncio.Semaphore(count)

    @asynccontextmanager
    async def borrow(self, timeout_seconds: float) -> AsyncIterator[httpx.AsyncBaseTransport]:
        """Lend the most recently used free transport.

        After an error it is replaced: its connection may be in any state.

        Raises:
            httpx.PoolTimeout: none became free within `timeout_seconds` seconds.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"no connection became free within {timeout_seconds:g} s") from None
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
        transport = _Transport(verify=self._tls, limits=LIMITS, trust_env=False)
        return self._wrap(transport) if self._wrap else transport


def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


class _Transport(httpx.AsyncHTTPTransport):
    """Sends no request on a connection with bytes after the last response: they would be read as the next one."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if any(_has_bytes_left(connection) for connection in self._pool.connections):
            await self._pool.aclose()  # the next request opens a connection
        return await super().handle_async_request(request)


def _has_bytes_left(connection: Any) -> bool:  # noqa: ANN401 - httpcore's; no public API shows this
    """Whether the parser or the TLS layer has unread bytes; httpcore itself checks only the socket."""
    http = connection._connection
    if http is None:
        return False
    left, _ = http._h11_state.trailing_data
    tls: ssl.SSLObject | None = http._network_stream.get_extra_info("ssl_object")
    if left or tls is None:
        return bool(left)
    try:
        tls.read(1)
    except ssl.SSLError as error:
        return not isinstance(error, ssl.SSLWantReadError)
    return True
