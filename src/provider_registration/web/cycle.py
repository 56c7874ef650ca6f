"""uvicorn's cycle of a request and its response, with cheaper heads of responses."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain

from uvicorn._types import ASGISendEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from provider_registration.web.headers import RAW_SECURITY_HEADERS

# Headers of almost every response: uvicorn searches each name and value for invalid characters every time.
CONSTANT_LINES = {(name, value): b"%b: %b\r\n" % (name, value) for name, value in RAW_SECURITY_HEADERS}
MAX_NAMES = 256  # known to be valid; all come from the source


class Cycle(RequestResponseCycle):
    """Sends the same bytes as uvicorn's. It logs no requests: RequestMiddleware does.

    The base class is private to uvicorn, so pyproject.toml pins its version, and tests compare what both send.
    """

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the response."""
        if (
            message["type"] != "http.response.start"
            or self.response_started
            or self.disconnected
            or self.flow.write_paused
        ):
            await super().send(message)
        else:
            self._start(message)

    def _start(self, message: HTTPResponseStartEvent) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        lines = [STATUS_LINE[status]]
        says_close = False
        for header in chain(self.default_headers, message.get("headers", ())):
            if line := CONSTANT_LINES.get(header):
                lines.append(line)
                continue
            name, value = _valid_name(header[0]), header[1]
            if HEADER_VALUE_RE.search(value):
                raise RuntimeError("Invalid HTTP header value.")
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif name == b"connection" and b"close" in [token.lower().strip() for token in value.split(b",")]:
                self.keep_alive = False
                says_close = True
        if not self.keep_alive and not says_close:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self.transport.write(b"".join(lines))  # BundlingTransport sends it with the body


@lru_cache(MAX_NAMES)
def _valid_name(name: bytes) -> bytes:
    """The name of a header in lower case.

    Raises:
        RuntimeError: it has characters that no name may have.
    """
    if HEADER_RE.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    return name.lower()
