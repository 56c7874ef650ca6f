"""uvicorn's HTTP protocol: an answer leaves in one piece, and no request fails when the server stops."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

STOPPING = "stopping"  # of the lifespan's state: an asyncio.Event, set as soon as the server is to stop
LINGER_SECONDS = 1.0  # that an idle connection stays open then: a request may be on its way


class BundlingProtocol(HttpToolsProtocol):
    """Sends once what uvicorn writes in two: the caller is woken once, and the kernel is asked once."""

    _is_stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to serve a connection."""
        super().connection_made(cast("asyncio.Transport", _BundlingTransport(transport, self.loop)))

    def on_headers_complete(self) -> None:
        """Begin to serve a request."""
        super().on_headers_complete()
        if self._is_stopping:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Stop after the request under way, or the one that may be on its way; uvicorn would cut an idle connection."""
        if stopping := self.app_state.get(STOPPING):
            stopping.set()
        self._is_stopping = True
        self.loop.call_later(LINGER_SECONDS, super().shutdown)
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        if cycle and not cycle.response_complete:
            cycle.keep_alive = False


class _BundlingTransport:
    """Collects what is written until the loop has run what is ready; everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the transport has it
        return getattr(self._transport, name)
