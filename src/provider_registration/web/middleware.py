"""The outermost middleware: metrics, request ID, headers, access log, and responses to unhandled exceptions."""

from __future__ import annotations

import logging
import re
from functools import cache
from http import HTTPStatus
from random import getrandbits
from time import perf_counter

from fastapi import Request
from prometheus_client import Counter, Histogram
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_registration.observability.endpoints import METHODS, as_get, endpoint_of
from provider_registration.observability.logs import AccessLog, request_id_var
from provider_registration.observability.metrics import REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT
from provider_registration.web.headers import RawHeaders, add_security_headers
from provider_registration.web.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX, instance_of

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = b"x-request-id"
VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Version, trace id, parent id, flags: https://www.w3.org/TR/trace-context/#traceparent-header-field-values
VALID_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
UNTIMED = frozenset({"/events/stream"})  # it lasts for minutes and says nothing about response times
CLIENT_CLOSED_REQUEST = 499  # nginx's code for a client that disconnected before the response


class RequestMiddleware:
    """Wraps the whole application. Pure ASGI: BaseHTTPMiddleware costs a third of the throughput."""

    def __init__(self, app: ASGIApp, *, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self._access_log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = as_get(scope)
        if any(name == b"cookie" and b"\\" in value for name, value in scope["headers"]):
            scope = {**scope, "headers": [_without_escapes(*header) for header in scope["headers"]]}
        if self._root_path:
            scope["root_path"] = self._root_path
        request_id = _request_id(scope)
        request_id_var.set(request_id)
        status: int = CLIENT_CLOSED_REQUEST
        started = perf_counter()
        REQUESTS_IN_FLIGHT.inc()

        async def send_with_request_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers: RawHeaders = list(message.get("headers", ()))
                headers.append((REQUEST_ID_HEADER, request_id.encode()))
                add_security_headers(headers)
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, send_with_request_id)
        except Exception:
            logger.exception("unhandled exception")
            if status != CLIENT_CLOSED_REQUEST:
                raise  # the response has started: only a closed connection tells the client that it is incomplete
            await _internal_error(scope)(scope, receive, send_with_request_id)
        finally:
            REQUESTS_IN_FLIGHT.dec()
            self._record(scope, status, perf_counter() - started, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        endpoint = endpoint_of(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        state = scope.get("state", {})
        _counter(method, endpoint, status).inc()
        if endpoint not in UNTIMED:
            _histogram(method, endpoint).observe(seconds)
        self._access_log.add(
            method=method,
            endpoint=endpoint,
            status=status,
            seconds=seconds,
            user_id=state.get("user_id"),
            api_key_id=state.get("api_key_id"),
            request_id=request_id,
        )


@cache
def _counter(method: str, endpoint: str, status: int) -> Counter:
    """The counter of one series, cached because `labels` takes a lock each time."""
    return REQUESTS.labels(method, endpoint, str(status))


@cache
def _histogram(method: str, endpoint: str) -> Histogram:
    return REQUEST_SECONDS.labels(method, endpoint)


def _request_id(scope: Scope) -> str:
    """The client's X-Request-ID, else the trace ID of the request, else a new ID."""
    trace_id = ""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER and VALID_REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
        if name == b"traceparent" and (match := VALID_TRACEPARENT.fullmatch(value)):
            trace_id = str(match[1], "ascii")
    return trace_id or f"{getrandbits(128):032x}"


def _without_escapes(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Drop cookies with a backslash; none of ours has one (RFC 6265 section 4.1.1).

    FastAPI parses all cookies of every request, and Python before 3.12.6 takes 4 s for 32 KiB (CVE-2024-7592).
    """
    if name != b"cookie":
        return name, value
    return name, b";".join(cookie for cookie in value.split(b";") if b"\\" not in cookie)


def _internal_error(scope: Scope) -> JSONResponse:
    return JSONResponse(
        {
            "type": TYPE_PREFIX + "internal-error",
            "title": "Internal error",
            "status": HTTPStatus.INTERNAL_SERVER_ERROR,
            "detail": "Internal error. Quote X-Request-ID when you report it.",
            "instance": instance_of(Request(scope)),
        },
        HTTPStatus.INTERNAL_SERVER_ERROR,
        media_type=PROBLEM_MEDIA_TYPE,
    )
