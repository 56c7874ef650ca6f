"""uvicorn's HTTP protocol, sending the head and the body of an answer together."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BundlingProtocol(HttpToolsProtocol):
    """Sends once what uvicorn writes in two: the caller is woken once, and the kernel is asked once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to serve a connection."""
        super().connection_made(cast("asyncio.Transport", _BundlingTransport(transport, self.loop)))


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
