"""Slow bodies: a client cannot keep a request open forever, and an incomplete body is never stored."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from provider_registration.web import body as web_body

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
