"""Slow bodies: a client cannot keep a request open forever, and an incomplete body is never stored."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.responses import Response

from provider_registration.web import body as web_body
from provider_registration.web.body import BodyLimit
from provider_registration.web.problems import BodyTooSlow
from provider_registration.web.server import BundlingProtocol

PROBLEM = "application/problem+json"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(web_body, "BODY_SECONDS", 1)


@pytest.fixture
def send(service):
    """Send the beginning of a request and nothing more; return the head and the body of the response."""

    async def send(beginning):
        address = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(beginning)
        async with asyncio.timeout(10):
            answer = await reader.read()  # until the service closes the connection
        writer.close()
        head, _, text = answer.partition(b"\r\n\r\n")
        return head.decode(), json.loads(text)

    return send


@pytest.mark.parametrize("path", ["/candidates", "/auth/login", "/auth/refresh"])
@pytest.mark.parametrize(
    ("length", "part"),
    [("Content-Length: 100", b'{"company_name":'), ("Transfer-Encoding: chunked", b'5\r\n{"a":\r\n')],
    ids=["announced", "chunked"],
)
async def test_a_body_that_does_not_arrive_is_refused_and_the_connection_closed(send, path, length, part):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n\r\n"

    answer, problem = await send(head.encode() + part)

    assert answer.startswith("HTTP/1.1 408 ")
    assert f"content-type: {PROBLEM}" in answer.lower()
    assert "connection: close" in answer.lower()
    assert problem["type"].endswith(":body-too-slow")


async def test_a_body_that_comes_in_time_is_taken_however_it_is_cut(service, registration):
    body = json.dumps(registration()).encode()
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)

    head = (
        f"POST /candidates HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode())
    for start in range(0, len(body), 100):
        await asyncio.sleep(0.02)
        writer.write(body[start : start + 100])
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert answer.startswith(b"HTTP/1.1 201 ")


async def length_of_body(scope, receive, send):
    length, more, status = 0, True, 200
    try:
        while more:
            message = await receive()
            length += len(message["body"])
            more = message["more_body"]
    except BodyTooSlow:
        status = 408
    await Response(str(length), status)(scope, receive, send)


@pytest.fixture
async def port():
    """Our protocol, which tells whether a body has arrived."""
    config = uvicorn.Config(
        BodyLimit(length_of_body), port=0, http=BundlingProtocol, lifespan="off", ws="none", log_config=None
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


@pytest.mark.parametrize(
    ("head", "parts", "status", "timers"),
    [
        (b"Content-Length: 10", [b"0123456789"], b"200", 0),
        (b"Transfer-Encoding: chunked", [b"a\r\n0123456789\r\n0\r\n\r\n"], b"200", 0),
        (b"Content-Length: 10", [b"01234", b"56789"], b"200", 2),
        (b"Content-Length: 10", [b"", b"0123456789"], b"200", 1),
        (b"Content-Length: 10\r\nExpect: 100-continue", [b"", b"0123456789"], b"100", 1),
        (b"Content-Length: 10", [b"0123"], b"408", 2),
        (b"Transfer-Encoding: chunked", [b"a\r\n0123456789\r\n"], b"408", 2),
    ],
    ids=["whole", "whole in chunks", "in two parts", "after its head", "expected", "incomplete", "endless"],
)
async def test_only_a_body_that_has_not_arrived_with_its_head_needs_a_timer(
    port, monkeypatch, head, parts, status, timers
):
    deadlines = []

    def timeout_at(deadline):
        deadlines.append(deadline)
        return asyncio.Timeout(deadline)

    monkeypatch.setattr(asyncio, "timeout_at", timeout_at)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (head, parts[0]))
    for part in parts[1:]:
        await asyncio.sleep(0.1)
        writer.write(part)
    try:
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n")
    finally:
        writer.close()

    assert answer.split()[1] == status
    assert len(deadlines) == timers
