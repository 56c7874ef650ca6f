"""uvicorn's HTTP protocol with limits that it lacks.

Sends a response in one piece, lets no request fail at shutdown, and bounds what a connection may send: httptools,
uvicorn and Starlette limit neither the size of a request head nor the time to receive it. One IP address cannot use
all connections.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address
from random import getrandbits
from typing import NoReturn, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from provider_registration.errors import ServiceError
from provider_registration.observability.metrics import RATE_LIMIT_REFUSALS
from provider_registration.web.addresses import network_of
from provider_registration.web.admission import Admission
from provider_registration.web.body import BODY_SECONDS, ENLARGE, HAS_ARRIVED, MAX_BODY_BYTES
from provider_registration.web.cycle import Cycle
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

# Of a connection whose parser was stopped: uvicorn takes that for invalid HTTP, which it logs.
SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - nothing configures it
STOPPING = "stopping"  # key of the lifespan's state: an asyncio.Event that is set when shutdown starts
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100  # Apache's limit; browsers send 20. Each costs a microsecond, and 32 KiB can contain 8,000
MAX_TARGET_BYTES = 8000  # RFC 9110 section 4.1; percent-encoded bytes cost 0.25 µs each
MAX_PIPELINED = 8  # requests that may wait for an earlier one on their connection; browsers send none
# Head, body and trailers. After a refusal, up to this much is read and discarded: a client that is cut off while it
# sends may never see the refusal.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_PARTS = 200  # chunks, reads and trailers of a message: each costs a few microseconds, however small
PART_BYTES = 1024  # in each further part, on average, of a message that a route allows to be larger
HEAD_SECONDS = 10  # for a head to arrive, from its first byte or the start of the connection
UNREAD_SECONDS = 30  # in which a client must read MIN_READ_BYTES of a response, or the rest of it
MIN_READ_BYTES = 32 * 1024  # 1 KiB/s: GPRS is four times as fast
# During which a client may go on sending a message that was refused or answered: a reset could overtake the response.
REFUSED_SECONDS = 2.0
CHECK_SECONDS = 2.5  # between checks for slow senders and readers
MAX_CONNECTIONS_PER_NETWORK = 100  # idle ones included; a process can open 1,024 files or more. Not for trusted proxies
RETRY_SECONDS = 1  # for clients with too many connections
NO_LINGER = struct.pack("ii", 1, 0)  # of SO_LINGER: on, for 0 s
LINGER_SECONDS = 1.0  # for which idle connections stay open at shutdown: a request may be on its way
HTTP_VERSIONS = ("1.1", "1.0")
HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|[A-Za-z0-9._~%!$&'()*+,=-]*)(?::([0-9]{0,5}))?")  # RFC 9110, 7.2
MAX_PORT = 65_535


class StopReading(Exception):
    """Stops the parser, which would process the rest of its data; uvicorn treats it as a malformed request."""


class BundlingProtocol(HttpToolsProtocol):
    """Sends head and body in one write: one system call, and the client wakes up once."""

    transport: BundlingTransport  # type: ignore[assignment]  # it has every method that uvicorn uses
    _is_stopping = False
    _is_refused = False  # further input is read and discarded
    _is_in_head = True
    _began_at: float | None = None  # when the client started the current message
    _received = 0  # bytes of that message
    _parts = 0  # of that message: chunks, reads and trailers
    _most_bytes, _most_parts, _seconds = MAX_MESSAGE_BYTES, MAX_PARTS, float(BODY_SECONDS)  # what that message may have
    _taken = 0  # bytes of responses that the peer had acknowledged at `_taken_at`
    _taken_at = 0.0  # when it last had everything, or MIN_READ_BYTES more than before
    _next_check: asyncio.TimerHandle | None = None
    _network: str | None = None  # of the client, unless it is a trusted proxy

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Accept a connection, unless its network has too many open."""
        super().connection_made(cast("asyncio.Transport", BundlingTransport(transport, self.loop)))
        self.ws_protocol_class = None  # no route speaks WebSocket
        self._began_at = self._taken_at = self.loop.time()
        self._admission = Admission.of(self.server_state)
        self._network = self._untrusted_network()
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # the kernel would retransmit for minutes after a close
            # Longer than `_check_progress`, which resets the connection; the kernel ends it without telling the client.
            seconds = UNREAD_SECONDS + 4 * CHECK_SECONDS
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
        if self._network is not None:
            self._admission.connections[self._network] += 1
            if self._admission.connections[self._network] > MAX_CONNECTIONS_PER_NETWORK:
                RATE_LIMIT_REFUSALS.labels("connections").inc()
                self._write_refusal(TooManyRequests(RETRY_SECONDS))
                self.transport.close()  # immediately: it would still count as a connection
                return
        self._next_check = self.loop.call_later(CHECK_SECONDS, self._check_progress)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything now: a pending timer would keep this object alive for up to 75 s after a reset."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._network is not None:
            self._admission.leave(self._network)
        if self._next_check:
            self._next_check.cancel()

    @property
    def _socket(self) -> socket.socket:
        return cast("socket.socket", self.transport.get_extra_info("socket"))

    @property
    def _is_over(self) -> bool:
        """Whether further input is not served."""
        return self._is_refused or self.transport.is_closing()

    def _untrusted_network(self) -> str | None:
        if not self.client or (
            isinstance(self.app, ProxyHeadersMiddleware) and self.client[0] in self.app.trusted_hosts
        ):
            return None
        return network_of(self.client[0])

    def data_received(self, data: bytes) -> None:
        """Read input up to the limits."""
        if self._began_at is None:
            self._began_at = self.loop.time()  # also for bytes that start no message, such as a line end
        self._received += len(data)
        if self._is_refused:
            if self._received > MAX_MESSAGE_BYTES:
                self.transport.abort()
            return
        if not self.transport.is_closing():
            super().data_received(data)
        if self._received > (MAX_HEAD_BYTES if self._is_in_head else self._most_bytes):
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS) if self._is_in_head else None)

    def on_message_begin(self) -> None:
        """Start to read a request."""
        super().on_message_begin()
        self._is_in_head = True
        self._began_at = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header. Trailers are ignored (RFC 9110 section 6.5.1): they could imitate a gateway's headers."""
        if not self._is_in_head:
            self._count_part()
            return
        if len(self.headers) >= MAX_HEADERS:
            self._refuse_and_stop(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to serve a request: as uvicorn does, with our cycle, without WebSocket and its limits."""
        version = self.parser.get_http_version()
        self._check_head(version)
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        previous: RequestResponseCycle | None = self.cycle  # none before the first request
        self.cycle = Cycle(
            scope=scope,
            transport=self.transport,  # type: ignore[arg-type]  # it has every method that uvicorn uses
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive() and not self._is_stopping,
            on_response=self.on_response_complete,
        )
        self._is_in_head = False
        if previous is None or previous.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        elif len(self.pipeline) >= MAX_PIPELINED:
            self._refuse_and_stop(None)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _check_head(self, version: str) -> None:
        """Refuse what exceeds limits, or violates RFC 9110 section 2.5, RFC 9112 sections 3.2 and 6.1.

        llhttp does not check these.
        """
        size, hosts, is_well_formed = len(self.url), [], version in HTTP_VERSIONS
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                is_well_formed = False
        if size > MAX_HEAD_BYTES:
            self._refuse_and_stop(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
        if len(self.url) > MAX_TARGET_BYTES:
            self._refuse_and_stop(TargetTooLong(MAX_TARGET_BYTES))
        if len(hosts) > 1 or not (_is_host(hosts[0]) if hosts else version == "1.0"):
            is_well_formed = False
        if not is_well_formed:
            self._refuse_and_stop(MalformedRequest())

    def on_body(self, body: bytes) -> None:
        """Read a part of the body."""
        self._count_part()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish reading a request."""
        super().on_message_complete()
        self._is_in_head = True
        self._began_at = None
        self._received = self._parts = 0
        self._most_bytes, self._most_parts, self._seconds = MAX_MESSAGE_BYTES, MAX_PARTS, BODY_SECONDS

    def on_response_complete(self) -> None:
        """Go on with the next request; a body that is still arriving is of no use, so it has to end soon."""
        super().on_response_complete()
        cycle: RequestResponseCycle = self.cycle
        if cycle.response_complete and not self._is_in_head:
            self.loop.call_later(REFUSED_SECONDS, self._close_if_arriving, cycle)

    def _close_if_arriving(self, cycle: RequestResponseCycle) -> None:
        if self.cycle is cycle and not self._is_in_head:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request in its turn, unless its client has left by then."""
        start = super()._start_asgi_task
        cycle.scope[ENLARGE] = self._enlarge  # type: ignore[literal-required]
        cycle.scope[HAS_ARRIVED] = self._has_arrived  # type: ignore[literal-required]

        def start_unless_over() -> None:
            if not self._is_over:
                start(cycle, app)

        self._admission.start(start_unless_over, at_once=cycle.scope["path"] in UNLIMITED_PATHS)

    def _has_arrived(self) -> bool:
        """Whether the body of the last message, and so of every earlier one, has arrived."""
        return self._is_in_head

    def _enlarge(self, max_bytes: int, seconds: float) -> None:
        """Let the body that is being received be larger and take longer; its caller is authenticated."""
        if not self._has_arrived():
            self._most_bytes = MAX_MESSAGE_BYTES + max_bytes
            self._most_parts = MAX_PARTS + max_bytes // PART_BYTES
            self._seconds = seconds

    def _count_part(self) -> None:
        self._parts += 1
        if self._parts > self._most_parts:
            self._refuse_and_stop(BodyTooLarge(MAX_BODY_BYTES, self._most_parts), of_current=True)

    def _refuse_and_stop(self, error: ServiceError | None, *, of_current: bool = False) -> NoReturn:
        """Refuse, and stop the parser: what follows in the same data is not read."""
        self._refuse(error, of_current=of_current)
        self.logger = SILENT
        raise StopReading

    def _check_progress(self) -> None:
        """Close a connection that makes no progress; uvicorn closes those that are idle between requests."""
        if self._is_unread():
            # With a reset: the kernel would retransmit the rest for minutes.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.transport.abort()
            return
        if self.flow.read_paused:
            self._began_at = self.loop.time()  # reading is paused on this side
        limit = HEAD_SECONDS if self._is_in_head else HEAD_SECONDS + self._seconds
        is_late = self._began_at is not None and self.loop.time() - self._began_at > limit
        if is_late and not self._is_over:
            self._refuse(HeadTooSlow(HEAD_SECONDS) if self._is_in_head and self._received else None)
        self._next_check = self.loop.call_later(CHECK_SECONDS, self._check_progress)  # until the rest was read

    def _is_unread(self) -> bool:
        """Whether the client reads nothing, or almost nothing, of the buffered response."""
        left = self.transport.bytes_left()
        taken = self.transport.written - left
        if not left or taken - self._taken >= MIN_READ_BYTES:
            self._taken, self._taken_at = taken, self.loop.time()
        return self.loop.time() - self._taken_at > UNREAD_SECONDS

    def _refuse(self, error: ServiceError | None, *, of_current: bool = False) -> None:
        """Stop serving the connection: send the error, unless another response is pending, and close it.

        The error concerns the current request if `of_current`, else the input after it. Once no response is pending,
        further input is read and discarded for a while. Closing a connection with unread input resets it, and a
        client that is still sending, as nginx does, may never read the response.
        """
        if self._is_refused:  # further input may exceed a limit too
            return
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        pending = cycle if cycle is not None and not cycle.response_complete else None
        if error is None or (pending and (pending.response_started or self.pipeline or not of_current)):
            self.transport.close()
            return
        if pending:
            pending.disconnected = True  # discard the application's response
            pending.message_event.set()
        if pending or not of_current:  # otherwise the response was sent
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
        """Refuse input that is not HTTP."""
        if not self._is_over:
            self._refuse(MalformedRequest())

    def shutdown(self) -> None:
        """Close after the current request, or one that may be on its way; uvicorn would cut idle connections."""
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
