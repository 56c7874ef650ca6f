"""uvicorn's HTTP protocol, with what it lacks.

An answer leaves in one piece, no request fails when the server stops, and no connection may send without end: neither
of httptools, uvicorn and Starlette limits the size of a head, nor the time that it takes.
"""

from __future__ import annotations

import asyncio
import json
from random import getrandbits
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from provider_registration.errors import ServiceError
from provider_registration.web.body import BODY_SECONDS
from provider_registration.web.headers import SECURITY_HEADERS
from provider_registration.web.problems import (
    PROBLEM_MEDIA_TYPE,
    HeadTooLarge,
    HeadTooSlow,
    MalformedRequest,
    problem_of,
    status_of,
)

STOPPING = "stopping"  # of the lifespan's state: an asyncio.Event, set as soon as the server is to stop
MAX_HEAD_BYTES = 32 * 1024
MAX_PIPELINED = 16  # requests that may wait for the answer to an earlier one of their connection
# Head, body and trailers. What comes after a refusal is read and forgotten up to here: a caller who is cut off while
# sending may never see the refusal.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
HEAD_SECONDS = 10  # that a head may take to arrive, from its first byte or the connection's beginning
UNREAD_SECONDS = 30  # that a caller may take nothing of an answer
LOOK_SECONDS = 2.5  # between two looks at how long a connection has been sending, or has not been reading
LINGER_SECONDS = 1.0  # that an idle connection stays open then: a request may be on its way


class BundlingProtocol(HttpToolsProtocol):
    """Sends once what uvicorn writes in two: the caller is woken once, and the kernel is asked once."""

    _is_stopping = False
    _is_in_head = True
    _began_at: float | None = None  # when the caller began the message that it has not sent to its end
    _received = 0  # bytes of that message
    _drained = 0  # times that the caller has read what waited for it
    _unread: tuple[int, int] | None = None  # bytes that wait for the caller, and `_drained`, at the last look
    _unread_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to serve a connection."""
        super().connection_made(cast("asyncio.Transport", _BundlingTransport(transport, self.loop)))
        self._began_at = self.loop.time()
        self.loop.call_later(LOOK_SECONDS, self._look_at_time)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is too much."""
        if self._began_at is None:
            self._began_at = self.loop.time()  # also for bytes that begin no message, such as a line end
        self._received += len(data)
        if not self.transport.is_closing():
            super().data_received(data)
        if self._received > (MAX_HEAD_BYTES if self._is_in_head else MAX_MESSAGE_BYTES):
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES) if self._is_in_head else None)

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        if self.transport.is_closing():
            return
        super().on_message_begin()
        self._is_in_head = True
        self._began_at = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived; trailers are ignored (RFC 9110 section 6.5.1), or they would pass for a gateway's."""
        if self._is_in_head and not self.transport.is_closing():
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to serve a request."""
        if self.transport.is_closing():  # it came together with one that was refused
            return
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES))
            return
        super().on_headers_complete()
        self._is_in_head = False
        if len(self.pipeline) > MAX_PIPELINED:
            self._refuse(None)
        if self._is_stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        if not self.transport.is_closing():  # there may be no request to which it belongs
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived."""
        if not self._is_in_head:  # it was not refused
            super().on_message_complete()
        self._is_in_head = True
        self._began_at = None
        self._received = 0

    def _look_at_time(self) -> None:
        """Close a connection on which nothing goes on; one that is idle between requests is uvicorn's."""
        if self.parser is None:  # it is closed
            return
        if self._is_unread():
            self.transport.abort()
            return
        if self.flow.read_paused:
            self._began_at = self.loop.time()  # it is we who do not read
        limit = HEAD_SECONDS if self._is_in_head else HEAD_SECONDS + BODY_SECONDS
        is_late = self._began_at is not None and self.loop.time() - self._began_at > limit
        if is_late and not self.transport.is_closing():
            self._refuse(HeadTooSlow(HEAD_SECONDS) if self._is_in_head and self._received else None)
        self.loop.call_later(LOOK_SECONDS, self._look_at_time)  # until the caller has read what is left

    def resume_writing(self) -> None:
        """The caller has read most of what waited for it."""
        super().resume_writing()
        self._drained += 1

    def _is_unread(self) -> bool:
        """Whether the caller has taken nothing of what waits for it for UNREAD_SECONDS."""
        unread = (self.transport.get_write_buffer_size(), self._drained)
        if not unread[0] or unread != self._unread:
            self._unread, self._unread_since = unread, self.loop.time()
        return self.loop.time() - self._unread_since > UNREAD_SECONDS

    def _refuse(self, error: ServiceError | None) -> None:
        """Close the connection, with an answer if there is none under way."""
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        if error is not None and (cycle is None or cycle.response_complete):
            status, body = status_of(error), json.dumps(problem_of(error, "/"))
            headers = {
                "Content-Type": PROBLEM_MEDIA_TYPE,
                "Content-Length": len(body),
                "Connection": "close",
                "X-Request-ID": f"{getrandbits(128):032x}",
                **SECURITY_HEADERS,
            }
            lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{each}: {headers[each]}" for each in headers)]
            self.transport.write(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())
        self.transport.close()

    def send_400_response(self, _msg: str) -> None:
        """Refuse what is no HTTP."""
        if not self.transport.is_closing():
            self._refuse(MalformedRequest())

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
