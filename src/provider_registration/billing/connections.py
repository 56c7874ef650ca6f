"""Connections to one server, kept alive and used by one request at a time.

By aiohttp: with httpx, even with a transport for each connection and no pool to search, a call takes three times the
CPU.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Sequence
from typing import Any

import aiohttp
import httpx

# Close idle connections before common servers do, at 5 s: a request on a closed connection would look ambiguous.
KEEP_ALIVE_SECONDS = 4.0


def open_session(
    count: int, *, timeout: float, connect_timeout: float, traces: Sequence[aiohttp.TraceConfig] = ()
) -> aiohttp.ClientSession:
    """A session with at most `count` connections, which sends exactly what it is asked to and decodes nothing.

    Waiting for a free connection, resolving the name and connecting may together take `timeout` and `connect_timeout`
    seconds, each attempt to connect `connect_timeout`, each pause of a response `timeout`. Nothing comes from the
    environment: no proxies, no certificates.
    """
    return aiohttp.ClientSession(
        connector=_Connector(
            limit=count,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            ssl=_tls(),
            use_dns_cache=False,
        ),
        timeout=aiohttp.ClientTimeout(
            connect=timeout + connect_timeout, sock_connect=connect_timeout, sock_read=timeout
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent",),
        auto_decompress=False,
        trace_configs=list(traces),
    )


def _tls() -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Connector(aiohttp.TCPConnector):
    """Does not reuse a connection on which something came while it was idle: the next request would get it.

    aiohttp checks only when a response ends, and would parse later bytes as the next response.
    """

    async def _get(self, key: Any, traces: Any) -> Any:  # noqa: ANN401 - aiohttp's; no public API shows this
        while (connection := await super()._get(key, traces)) and _is_unusable(connection.protocol):
            connection.close()
        return connection

    def _release(self, key: Any, protocol: Any, **options: bool) -> None:  # noqa: ANN401 - aiohttp's
        super()._release(key, protocol, **options)
        protocol._parser = None  # so what comes now is kept as a tail, which `should_close` checks


def _is_unusable(protocol: Any) -> bool:  # noqa: ANN401 - aiohttp's
    """Whether the connection is closed, or has an unread response, or unread bytes in the kernel."""
    if protocol.should_close or not protocol.is_connected():
        return True
    poll = select.poll()
    poll.register(protocol.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
