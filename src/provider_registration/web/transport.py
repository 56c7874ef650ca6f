"""A transport that combines writes into one send, and knows how many bytes were acknowledged."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

if sys.platform != "win32":
    import fcntl
    import termios


class BundlingTransport:
    """Collects writes until the event loop has run its ready callbacks; passes everything else through.

    A head is sent with its body. Responses of one iteration are sent together, after it: clients that are woken one by
    one also send their next requests one by one, which costs more iterations.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self.written = 0  # bytes
        self.is_closing = transport.is_closing  # called for each part of a message

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def bytes_left(self) -> int:
        """Bytes that the peer has not acknowledged: those buffered here and those in the kernel."""
        return int(self._transport.get_write_buffer_size()) + _bytes_in_kernel(self.get_extra_info("socket"))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        self._flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def _flush(self) -> None:
        if self._parts and not self._transport.is_closing():
            data = b"".join(self._parts)
            self.written += len(data)
            self._transport.write(data)
        self._parts.clear()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the transport's
        return getattr(self._transport, name)


def _bytes_in_kernel(connection: socket.socket) -> int:
    """Bytes sent but not acknowledged by the peer; 0 if the kernel does not report them."""
    if sys.platform != "win32":
        with suppress(OSError):
            [waiting] = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
            return int(waiting)
    return 0
