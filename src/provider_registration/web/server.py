"""uvicorn's HTTP protocol, with what it lacks.

An answer leaves in one piece, no request fails when the server stops, and no connection may send without end: neither
of httptools, uvicorn and Starlette limits the size of a head, nor the time that it takes. Nor does one address get all
connections.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address
from random import getrandbits
from typing import cast

from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from provider_registration.errors import ServiceError
from provider_registration.observability.metrics import RATE_LIMIT_REFUSALS
from provider_registration.web.addresses import network_of
from provider_registration.web.admission import Admission
from provider_registration.web.body import BODY_SECONDS, MAX_BODY_BYTES
from provider_registration.web.headers import SECURITY_HEADERS
from provider_registration.web.problems import (
    PROBLEM_MEDIA_TYPE,
    BodyTooLarge,
    HeadTooLarge,
    HeadTooSlow,
    MalformedRequest,
    TargetTooLong,
    headers_of,
    problem_of,
    status_of,
)
from provider_registration.web.rate_limit_middleware import UNLIMITED_PATHS
from provider_registration.web.rate_limits import TooManyRequests
from provider_registration.web.transport import BundlingTransport

STOPPING = "stopping"  # of the lifespan's state: an asyncio.Event, set as soon as the server is to stop
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100  # as Apache has it; a browser sends 20. Each costs a microsecond, and 32 KiB have room for 8,000
MAX_TARGET_BYTES = 8000  # RFC 9110 section 4.1; what is percent-encoded costs a quarter of a microsecond a byte
MAX_PIPELINED = 8  # requests that may wait for the answer to an earlier one of their connection; browsers send none
# Head, body and trailers. What comes after a refusal is read and forgotten up to here: a caller who is cut off while
# sending may never see the refusal.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_PARTS = 200  # chunks, reads and trailers of a message: each costs some microseconds, however small it is
HEAD_SECONDS = 10  # that a head may take to arrive, from its first byte or the connection's beginning
UNREAD_SECONDS = 30  # in which a caller has to take LEAST_READ_BYTES of an answer, or what is left of it
LEAST_READ_BYTES = 32 * 1024  # 1 KiB/s: GPRS has four times that
REFUSED_SECONDS = 2.0  # that a caller who was refused may go on sending: a reset could overtake the refusal
LOOK_SECONDS = 2.5  # between two looks at how long a connection has been sending, or has not been reading
MAX_CONNECTIONS_AN_ADDRESS = 100  # of one that is no trusted proxy, idle ones too; a process has 1,024 files or more
RETRY_SECONDS = 1  # after which a caller with too many connections may try again
NO_LINGER = struct.pack("ii", 1, 0)  # of SO_LINGER: on, for 0 s
LINGER_SECONDS = 1.0  # that an idle connection stays open then: a request may be on its way
HTTP_VERSIONS = ("1.1", "1.0")
HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|[A-Za-z0-9._~%!$&'()*+,=-]*)(?::([0-9]{0,5}))?")  # RFC 9110, 7.2
MAX_PORT = 65_535


class NothingMoreIsRead(Exception):
    """Stops the parser, which would go on with what it was given; uvicorn takes it for a malformed request."""


class BundlingProtocol(HttpToolsProtocol):
    """Sends once what uvicorn writes in two: the caller is woken once, and the kernel is asked once."""

    transport: BundlingTransport  # type: ignore[assignment]  # which is an asyncio.Transport in all that is used
    _is_stopping = False
    _is_refused = False  # what comes now is read and forgotten
    _is_in_head = True
    _began_at: float | None = None  # when the caller began the message that it has not sent to its end
    _received = 0  # bytes of that message
    _parts = 0  # of that message: chunks, reads and trailers
    _taken = 0  # bytes of answers that the caller's side had taken at `_taken_at`
    _taken_at = 0.0  # when it last had all, or LEAST_READ_BYTES more than before
    _next_look: asyncio.TimerHandle | None = None
    _network: str | None = None  # of the caller, where it is no trusted proxy

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to serve a connection, unless its address has too many."""
        super().connection_made(cast("asyncio.Transport", BundlingTransport(transport, self.loop)))
        self._began_at = self._taken_at = self.loop.time()
        self._admission = Admission.of(self.server_state)
        self._network = self._network_of_stranger()
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # for one that is closed already: the kernel would offer for minutes
            # Later than `_look_at_time`, which resets the connection: the kernel ends it without a word to the caller.
            seconds = UNREAD_SECONDS + 4 * LOOK_SECONDS
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
        if self._network is not None:
            self._admission.connections[self._network] += 1
            if self._admission.connections[self._network] > MAX_CONNECTIONS_AN_ADDRESS:
                RATE_LIMIT_REFUSALS.labels("connections").inc()
                self._write_refusal(TooManyRequests(RETRY_SECONDS))
                self.transport.close()  # at once: it would count as one of the connections meanwhile
                return
        self._next_look = self.loop.call_later(LOOK_SECONDS, self._look_at_time)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything now: what a timer still knew would be kept for as long, 75 s after a reset."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._network is not None:
            self._admission.leave(self._network)
        if self._next_look:
            self._next_look.cancel()

    @property
    def _socket(self) -> socket.socket:
        return cast("socket.socket", self.transport.get_extra_info("socket"))

    @property
    def _is_over(self) -> bool:
        """Whether nothing that arrives now is to be served."""
        return self._is_refused or self.transport.is_closing()

    def _network_of_stranger(self) -> str | None:
        if not self.client or (
            isinstance(self.app, ProxyHeadersMiddleware) and self.client[0] in self.app.trusted_hosts
        ):
            return None
        return network_of(self.client[0])

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is too much."""
        if self._began_at is None:
            self._began_at = self.loop.time()  # also for bytes that begin no message, such as a line end
        self._received += len(data)
        if self._is_refused:
            if self._received > MAX_MESSAGE_BYTES:
                self.transport.abort()
            return
        if not self.transport.is_closing():
            super().data_received(data)
        if self._received > (MAX_HEAD_BYTES if self._is_in_head else MAX_MESSAGE_BYTES):
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS) if self._is_in_head else None)

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        self._stop_if_over()
        super().on_message_begin()
        self._is_in_head = True
        self._began_at = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived; trailers are ignored (RFC 9110 section 6.5.1), or they would pass for a gateway's."""
        self._stop_if_over()
        if not self._is_in_head:
            self._count_part()
            return
        if len(self.headers) >= MAX_HEADERS:
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
            raise NothingMoreIsRead
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to serve a request."""
        self._stop_if_over()  # it came together with one that was refused
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
            return
        if len(self.url) > MAX_TARGET_BYTES:
            self._refuse(TargetTooLong(MAX_TARGET_BYTES))
            return
        if not self._is_well_formed():
            self._refuse(MalformedRequest())
            return
        super().on_headers_complete()
        self._is_in_head = False
        if len(self.pipeline) > MAX_PIPELINED:
            self._refuse(None)
        if self._is_stopping:
            self.cycle.keep_alive = False

    def _is_well_formed(self) -> bool:
        """Whether a request has what RFC 9110 section 2.5 and RFC 9112 sections 3.2 and 6.1 ask for, beyond llhttp."""
        version = self.parser.get_http_version()
        hosts = [value for name, value in self.headers if name == b"host"]
        if version not in HTTP_VERSIONS or len(hosts) > 1 or (version == "1.1" and not hosts):
            return False
        if any(name == b"transfer-encoding" and value.strip().lower() != b"chunked" for name, value in self.headers):
            return False
        return not hosts or _is_host(hosts[0])

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        self._stop_if_over()  # there may be no request to which it belongs
        self._count_part()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived."""
        if not self._is_in_head:  # it was not refused
            super().on_message_complete()
        self._is_in_head = True
        self._began_at = None
        self._received = self._parts = 0

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin a request when it is its turn; that of a caller who has left by then is not begun."""
        begin = super()._start_asgi_task

        def begin_unless_over() -> None:
            if not self._is_over:
                begin(cycle, app)

        self._admission.begin(begin_unless_over, at_once=cycle.scope["path"] in UNLIMITED_PATHS)

    def _stop_if_over(self) -> None:
        if self._is_over:
            raise NothingMoreIsRead

    def _count_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            self._refuse(BodyTooLarge(MAX_BODY_BYTES, MAX_PARTS), of_current=True)
            raise NothingMoreIsRead

    def _look_at_time(self) -> None:
        """Close a connection on which nothing goes on; one that is idle between requests is uvicorn's."""
        if self._is_unread():
            # With a reset: the kernel would go on offering what is left for minutes.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.transport.abort()
            return
        if self.flow.read_paused:
            self._began_at = self.loop.time()  # it is we who do not read
        limit = HEAD_SECONDS if self._is_in_head else HEAD_SECONDS + BODY_SECONDS
        is_late = self._began_at is not None and self.loop.time() - self._began_at > limit
        if is_late and not self._is_over:
            self._refuse(HeadTooSlow(HEAD_SECONDS) if self._is_in_head and self._received else None)
        self._next_look = self.loop.call_later(LOOK_SECONDS, self._look_at_time)  # until what is left was read

    def _is_unread(self) -> bool:
        """Whether the caller takes nothing, or next to nothing, of what waits for it here and in the kernel."""
        left = self.transport.bytes_left()
        taken = self.transport.written - left
        if not left or taken - self._taken >= LEAST_READ_BYTES:
            self._taken, self._taken_at = taken, self.loop.time()
        return self.loop.time() - self._taken_at > UNREAD_SECONDS

    def _refuse(self, error: ServiceError | None, *, of_current: bool = False) -> None:
        """Serve nothing more on the connection: say why, where nobody waits for another answer, and close it.

        The error is of the request under way if `of_current`, else of what came after it. Once nobody waits for an
        answer any more, what still comes is read and forgotten for a while. To close a connection on which something
        was not read is to reset it: who is still sending then, as nginx is, may never read the answer.
        """
        if self._is_refused:  # what still comes may break a bound as well
            return
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        waits = cycle if cycle is not None and not cycle.response_complete else None
        if error is None or (waits and (waits.response_started or self.pipeline or not of_current)):
            self.transport.close()
            return
        if waits:
            waits.disconnected = True  # what the application says now is said to nobody
            waits.message_event.set()
        if waits or not of_current:  # else it has been answered
            self._write_refusal(error)
        self._is_refused = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(REFUSED_SECONDS, self.transport.close)

    def _write_refusal(self, error: ServiceError) -> None:
        status, body = status_of(error), json.dumps(problem_of(error, "/"))
        headers = {
            "Content-Type": PROBLEM_MEDIA_TYPE,
            "Content-Length": len(body),
            "Connection": "close",
            "X-Request-ID": f"{getrandbits(128):032x}",
            **headers_of(error),
            **SECURITY_HEADERS,
        }
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{each}: {headers[each]}" for each in headers)]
        self.transport.write(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())

    def send_400_response(self, _msg: str) -> None:
        """Refuse what is no HTTP."""
        if not self._is_over:
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


def _is_host(value: bytes) -> bool:
    if (match := HOST.fullmatch(value)) is None or int(match[2] or 0) > MAX_PORT:
        return False
    try:
        return match[1] is None or bool(IPv6Address(match[1].decode()).packed)
    except ValueError:
        return False
