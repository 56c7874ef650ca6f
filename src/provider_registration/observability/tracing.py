"""OpenTelemetry traces: a span for each request, its statements and its calls to billing.

Imported only with TRACING, because OpenTelemetry's SDK is an extra. Spans have no request data.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from threading import Thread
from types import SimpleNamespace

import aiohttp
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext, ExecutionContext
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_registration import __version__
from provider_registration.observability.callers import callers_var
from provider_registration.observability.endpoints import METHODS, UNMATCHED, as_get, endpoint_of

DEFAULT_SERVICE_NAME = "provider-registration"
FLUSH_SECONDS = 1.5  # to send the last spans at shutdown
WRITES = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM) ([a-z_]+)")
READS = re.compile(r"\b(FROM) ([a-z_]+)\b(?!\()")  # not a function, as after EXTRACT
W3C = TraceContextTextMapPropagator()


class Tracing:
    """Creates spans and sends them to a collector, configured by OpenTelemetry's variables (`OTEL_…`)."""

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("provider_registration", __version__)

    @asynccontextmanager
    async def exporting(self) -> AsyncIterator[None]:
        """Send spans during the block, in a thread; spans that do not fit into its queue are dropped."""
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        yield
        # A daemon thread: a collector that does not respond must not delay the exit of the process.
        flushing = Thread(target=self._provider.shutdown, daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_SECONDS)

    def middleware(self) -> Middleware:
        """The middleware that creates a span for every request."""
        return Middleware(TracingMiddleware, tracer=self._tracer)

    def watch(self, engine: Engine) -> None:
        """Create a span for every statement of a request."""
        event.listen(engine, "before_cursor_execute", self._begin_statement)
        event.listen(engine, "after_cursor_execute", _end_statement)
        event.listen(engine, "handle_error", _fail_statement)

    def for_session(self) -> aiohttp.TraceConfig:
        """What makes a session create a span for every request, in the trace of the current request."""
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._begin_request)
        trace.on_request_end.append(_end_request)
        trace.on_request_exception.append(_fail_request)
        return trace

    async def _begin_request(
        self, _session: aiohttp.ClientSession, context: SimpleNamespace, started: aiohttp.TraceRequestStartParams
    ) -> None:
        url = started.url
        attributes: dict[str, AttributeValue] = {
            "http.request.method": started.method,
            "url.template": url.path,
            "server.address": url.host or "",
            "server.port": url.port or 0,
        }
        parent = set_span_in_context(callers[0]) if (callers := _callers()) else None
        span = self._tracer.start_span(f"{started.method} {url.path}", parent, SpanKind.CLIENT, attributes)
        started.headers.update(_carrier(span))
        context.span = span

    def _begin_statement(
        self,
        _connection: Connection,
        _cursor: object,
        statement: str,
        _parameters: object,
        context: ExecutionContext | None,
        _executemany: bool,
    ) -> None:
        callers = [span for span in _callers() if span.get_span_context().trace_flags.sampled]
        if context is None or not callers:
            return
        # The statement is in one trace, with links to and from the other requests of its batch.
        first, *others = callers
        span = self._tracer.start_span(
            _summary(statement),
            set_span_in_context(first),
            SpanKind.CLIENT,
            {"db.system.name": "postgresql", "db.query.text": statement},  # values are parameters
            [Link(other.get_span_context()) for other in others],
        )
        for other in others:
            if other.is_recording():
                other.add_link(span.get_span_context())
        context.statement_span = span  # type: ignore[attr-defined]  # it has the lifetime of the statement


class TracingMiddleware:
    """Creates a span for every request, in the trace of the client's `traceparent` if present; pure ASGI."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, verb = (scope["method"],) * 2 if scope["method"] in METHODS else ("_OTHER", "HTTP")
        # Not tracestate, which may contain anything and would be sent to the collector and to billing.
        parents = [str(value, "latin-1") for name, value in scope["headers"] if name == b"traceparent"]
        parent = W3C.extract({"traceparent": parents[-1]}) if parents else None
        span = self._tracer.start_span(verb, parent, SpanKind.SERVER, {"http.request.method": method})
        scope = {**as_get(scope)}  # a copy, in which the route is set
        scope["headers"] = [*scope["headers"], *_as_headers(span)]  # so that the request ID is the trace ID

        async def send_with_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                _record_status(span, message["status"], errors_from=HTTPStatus.INTERNAL_SERVER_ERROR)
            await send(message)

        callers_var.set((span,))
        try:
            await self._app(scope, receive, send_with_status)
        except BaseException as error:
            _record_error(span, type(error).__qualname__)
            raise
        finally:
            if (route := endpoint_of(scope)) != UNMATCHED:
                span.update_name(f"{verb} {route}")
                span.set_attribute("http.route", route)
            span.end()


def _resource() -> Resource:
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # the default without OTEL_SERVICE_NAME
        resource = resource.merge(Resource({SERVICE_NAME: DEFAULT_SERVICE_NAME}))
    return resource


@cache
def _summary(statement: str) -> str:
    """The first table that is written or, if none, read. The cache is bounded, because statements are constants."""
    match = WRITES.search(statement) or READS.search(statement)
    return " ".join(match.groups()) if match else statement.split(maxsplit=1)[0]


def _callers() -> tuple[Span, ...]:
    return tuple(span for span in callers_var.get() if isinstance(span, Span))


def _carrier(span: Span) -> Mapping[str, str]:
    carrier: dict[str, str] = {}
    W3C.inject(carrier, set_span_in_context(span))
    return carrier


def _as_headers(span: Span) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in _carrier(span).items()]


def _record_status(span: Span, status: int, *, errors_from: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= errors_from:
        _record_error(span, str(status))


def _record_error(span: Span, kind: str) -> None:
    """Record only the kind: exception messages may quote request data."""
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


async def _end_request(
    _session: aiohttp.ClientSession, context: SimpleNamespace, ended: aiohttp.TraceRequestEndParams
) -> None:
    _record_status(context.span, ended.response.status, errors_from=HTTPStatus.BAD_REQUEST)
    context.span.end()


async def _fail_request(
    _session: aiohttp.ClientSession, context: SimpleNamespace, failed: aiohttp.TraceRequestExceptionParams
) -> None:
    _record_error(context.span, type(failed.exception).__qualname__)
    context.span.end()


def _end_statement(*arguments: object) -> None:
    *_, context, _executemany = arguments
    if span := getattr(context, "statement_span", None):
        span.end()


def _fail_statement(context: ExceptionContext) -> None:
    if span := getattr(context.execution_context, "statement_span", None):
        sqlstate = getattr(context.original_exception, "sqlstate", None)
        if sqlstate:
            span.set_attribute("db.response.status_code", sqlstate)
        _record_error(span, sqlstate or type(context.original_exception).__qualname__)
        span.end()
