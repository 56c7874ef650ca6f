"""Traces: what is sent to a collector, what never is, and that the collector may be down."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from uuid import uuid4

import asyncpg
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background
from provider_registration.observability.tracing import FLUSH_SECONDS
from tests.ports import a_port
from tests.service import a_registration

CROWD = 8  # that registers at once
TRACE_ID = uuid4().hex
TRACEPARENT = f"00-{TRACE_ID}-{uuid4().hex[:16]}-01"
UNSAMPLED = f"00-{uuid4().hex}-{uuid4().hex[:16]}-00"


@dataclass
class Collector:
    """The spans that OpenTelemetry's exporter has sent."""

    url: str = ""
    received: list[bytes] = field(default_factory=list)

    async def receive(self, request: Request) -> Response:
        assert request.url.path == "/v1/traces"
        self.received.append(await request.body())
        return Response(media_type="application/x-protobuf")

    @property
    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.received]
        scopes = [
            scope for request in requests for resource in request.resource_spans for scope in resource.scope_spans
        ]
        return [span for scope in scopes for span in scope.spans]

    @property
    def service_name(self) -> str:
        resource = ExportTraceServiceRequest.FromString(self.received[0]).resource_spans[0].resource
        [name] = [each.value.string_value for each in resource.attributes if each.key == "service.name"]
        return name


@dataclass
class Story:
    """The requests to a traced service, and their spans."""

    spans: list[Span]
    received: bytes
    service_name: str
    crowd: list[httpx.Response]
    registration: Mapping[str, object]
    registered: httpx.Response
    approved: httpx.Response
    sent_to_billing: Mapping[str, object]

    def one(self, name: str) -> Span:
        [span] = [span for span in self.spans if span.name == name]
        return span

    def trace(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == trace_id]


def attributes(span: Span) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@asynccontextmanager
async def collecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    collector = Collector()
    async with serve_in_background(
        Starlette(routes=[Route("/{path:path}", collector.receive, methods=["POST"])])
    ) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield collector


async def register_together(client: httpx.AsyncClient, database) -> list[httpx.Response]:
    """Register many companies while the table is locked, so that the others wait for the first."""
    async with database.transaction():
        await database.execute("LOCK TABLE candidates IN SHARE MODE")
        asking = [asyncio.create_task(client.post("/candidates", json=a_registration())) for _ in range(CROWD)]
        await asyncio.sleep(0.5)
    return await asyncio.gather(*asking)


@pytest.fixture(scope="module")
async def story(settings, run_service, tokens, migrated_database_url) -> AsyncIterator[Story]:
    traced = settings.model_copy(update={"tracing": True})
    registration = a_registration()
    database = await asyncpg.connect(migrated_database_url)
    headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with collecting(monkeypatch) as collector:
            async with run_service(traced) as service, httpx.AsyncClient(base_url=service.url, timeout=30) as client:
                caller = {"traceparent": TRACEPARENT, "tracestate": "vendor=whatever-they-like"}
                registered = await client.post("/candidates", json=registration, headers=caller)
                candidate = f"/candidates/{registered.json()['candidate_id']}"
                approved = await client.post(f"{candidate}/approve", headers=headers)
                await client.get("/candidates", params={"page": 1}, headers=headers)
                await client.head(candidate, headers=headers)
                await client.request("PROPFIND", f"/nowhere/{registration['contact_email']}")
                await client.post("/candidates", json=a_registration(), headers={"traceparent": UNSAMPLED})
                crowd = await register_together(client, database)
                asked = {"name": registration["company_name"]}
                answer = await client.get(f"{service.billing_url}/sandbox/requests", params=asked)
                [sent_to_billing] = answer.json()["requests"]
    await database.close()
    return Story(
        collector.spans,
        b"".join(collector.received),
        collector.service_name,
        crowd,
        registration,
        registered,
        approved,
        sent_to_billing,
    )


def test_a_request_is_a_span_in_the_trace_of_its_caller(story):
    [span] = [span for span in story.trace(TRACE_ID) if span.kind == Span.SPAN_KIND_SERVER]

    assert span.name == "POST /candidates"
    assert span.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/candidates",
        "http.response.status_code": 201,
    }


def test_a_statement_is_a_span_below_its_request(story):
    [request, statement] = sorted(story.trace(TRACE_ID), key=lambda span: span.kind)

    assert (request.kind, statement.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert statement.parent_span_id == request.span_id
    assert attributes(statement)["db.system.name"] == "postgresql"
    assert "INSERT INTO candidates" in attributes(statement)["db.query.text"]
    assert request.start_time_unix_nano <= statement.start_time_unix_nano <= statement.end_time_unix_nano


def test_an_approval_leads_to_billing_and_billing_back_to_it(story):
    request = story.one("POST /candidates/{candidate_id}/approve")
    spans = story.trace(request.trace_id.hex())
    [billing] = [span for span in spans if span.name == "POST /provider"]

    assert {span.parent_span_id for span in spans if span is not request} == {request.span_id}
    assert {span.name for span in spans} >= {"INSERT INTO approval_intents", "UPDATE candidates"}
    assert attributes(billing)["http.response.status_code"] == 201
    assert story.sent_to_billing["traceparent"].startswith(f"00-{billing.trace_id.hex()}-{billing.span_id.hex()}-")
    assert story.approved.headers["X-Request-ID"] == story.sent_to_billing["request_id"] == request.trace_id.hex()


def test_a_list_has_its_statements(story):
    request = story.one("GET /candidates")

    assert {span.name for span in story.trace(request.trace_id.hex())} > {"GET /candidates"}


def test_the_request_id_is_the_trace_id(story):
    assert story.registered.headers["X-Request-ID"] == TRACE_ID
    traces = {span.trace_id.hex() for span in story.spans}
    assert {response.headers["X-Request-ID"] for response in story.crowd} < traces


def test_a_statement_for_several_requests_is_found_from_each(story):
    by_id = {span.span_id: span for span in story.spans}
    linked = 0
    for response in story.crowd:
        assert response.status_code == 201
        [request] = [s for s in story.trace(response.headers["X-Request-ID"]) if s.kind == Span.SPAN_KIND_SERVER]
        statements = [span for span in story.spans if span.parent_span_id == request.span_id]
        for link in request.links:
            statement = by_id[link.span_id]
            assert request.span_id in {back.span_id for back in statement.links}
            statements.append(statement)
            linked += 1
        assert ["INSERT INTO candidates" in attributes(span)["db.query.text"] for span in statements] == [True]

    assert linked == CROWD - 2  # the first one was alone; of the others, one has the statement in its trace


def test_a_request_for_nothing_has_neither_its_method_nor_its_path(story):
    span = story.one("HTTP")

    assert attributes(span) == {"http.request.method": "_OTHER", "http.response.status_code": 404}


def test_a_head_request_has_its_route(story):
    span = story.one("HEAD /candidates/{candidate_id}")

    assert attributes(span)["http.response.status_code"] == 200


def test_what_the_caller_does_not_trace_is_not_sent(story):
    assert story.trace(UNSAMPLED.split("-")[1]) == []


def test_no_span_has_what_a_caller_sent(story):
    sent = [value for value in story.registration.values() if isinstance(value, str)]
    candidate_id = story.registered.json()["candidate_id"]

    assert len(sent) >= 3
    for text in [*sent, candidate_id, "127.0.0.1:", "Bearer", "nowhere", "whatever"]:
        assert text.encode() not in story.received, text


def test_the_service_has_a_name(story):
    assert story.service_name == "provider-registration"


async def test_database_errors_are_traced_without_their_text(settings, run_service, monkeypatch, tokens, database):
    async with collecting(monkeypatch) as collector:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "registry")
        impatient = settings.model_copy(update={"tracing": True, "database_timeout_seconds": 2.0})
        async with run_service(impatient) as service, httpx.AsyncClient(base_url=service.url) as client:
            async with database.transaction():
                await database.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
                headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
                response = await client.get("/candidates", headers=headers)

    assert response.status_code == 503
    [request] = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    statements = [span for span in collector.spans if span.parent_span_id == request.span_id]
    failed = [span for span in statements if span.status.code == Status.STATUS_CODE_ERROR]
    assert request.status.code == Status.STATUS_CODE_ERROR
    assert attributes(request)["error.type"] == "503"
    assert failed
    for span in failed:
        assert attributes(span)["error.type"]
        assert not span.status.message
        assert not span.events
    assert collector.service_name == "registry"


@pytest.fixture
def no_collector() -> str:
    return f"http://127.0.0.1:{a_port()}"


@pytest.fixture
def silent_collector() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("collector", ["no_collector", "silent_collector"])
async def test_an_unresponsive_collector_delays_no_request(settings, run_service, monkeypatch, request, collector):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", request.getfixturevalue(collector))
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")  # ms: exports happen during requests
    async with run_service(settings.model_copy(update={"tracing": True})) as service:
        async with httpx.AsyncClient(base_url=service.url) as client:
            for _ in range(20):
                response = await client.post("/candidates", json=a_registration())
                assert response.status_code == 201
        stopping = perf_counter()

    assert perf_counter() - stopping < FLUSH_SECONDS + 5  # what stopping takes on a busy machine anyway


async def test_without_tracing_nothing_is_sent(settings, run_service, monkeypatch):
    async with collecting(monkeypatch) as collector:
        async with run_service(settings) as service, httpx.AsyncClient(base_url=service.url) as client:
            response = await client.post("/candidates", json=a_registration(), headers={"traceparent": TRACEPARENT})
            assert response.status_code == 201

    assert not collector.received


def test_without_tracing_the_sdk_is_not_loaded():
    program = "import sys, provider_registration.cli; print([m for m in sys.modules if 'opentelemetry.sdk' in m])"

    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)

    assert loaded.stdout == "[]\n"
