"""The protocol that sends an answer in one piece."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from starlette.responses import Response, StreamingResponse

from provider_registration.web.server import LINGER_SECONDS, BundlingProtocol, _BundlingTransport


class Recording:
    """A transport that remembers what it was told."""

    def __init__(self):
        self.told = []
        self.is_closed = False

    def write(self, data):
        self.told.append(data)

    def close(self):
        self.told.append("close")
        self.is_closed = True

    def is_closing(self):
        return self.is_closed

    def get_extra_info(self, name):
        return f"the {name}"


@pytest.fixture
def transport():
    return Recording()


@pytest.fixture
async def bundling(transport):
    return _BundlingTransport(transport, asyncio.get_running_loop())


async def test_what_is_written_at_once_is_sent_once(bundling, transport):
    bundling.write(b"head")
    bundling.write(b"body")
    assert transport.told == []

    await asyncio.sleep(0)
    bundling.write(b"more")
    await asyncio.sleep(0)

    assert transport.told == [b"headbody", b"more"]


async def test_nothing_is_lost_when_the_connection_is_closed(bundling, transport):
    bundling.write(b"body")
    bundling.close()
    await asyncio.sleep(0)

    assert transport.told == [b"body", "close"]


async def test_nothing_is_sent_to_somebody_who_left(bundling, transport):
    bundling.write(b"body")
    transport.is_closed = True
    await asyncio.sleep(0)

    assert transport.told == []


async def test_everything_else_is_the_transports_own(bundling):
    assert bundling.get_extra_info("peername") == "the peername"


async def application(scope, receive, send):
    async def parts():
        for number in range(3):
            yield b"%d" % number * 100_000
            await asyncio.sleep(0.01)

    response = Response(b"x" * 50) if scope["path"] == "/short" else StreamingResponse(parts())
    await response(scope, receive, send)


@pytest.fixture
async def server():
    config = uvicorn.Config(application, port=0, http=BundlingProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server
    server.should_exit = True
    await serving


@pytest.fixture
def port(server):
    return server.servers[0].sockets[0].getsockname()[1]


@pytest.mark.parametrize("path", ["/short", "/long"])
async def test_answers_come_whole_over_a_connection_that_is_kept(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    for _ in range(3):
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        if path == "/short":
            assert await reader.readexactly(50) == b"x" * 50
        else:
            body = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert body.count(b"0") >= 100_000
            assert body.count(b"2") >= 100_000
    writer.close()
    await writer.wait_closed()


async def test_a_request_that_is_on_its_way_when_the_server_stops_is_answered(server, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(50)

    server.should_exit = True
    await asyncio.sleep(0.3)  # the server has seen an idle connection
    writer.write(request)

    assert b"connection: close\r\n" in await reader.readuntil(b"\r\n\r\n")
    assert await reader.read() == b"x" * 50
    writer.close()
    await writer.wait_closed()


async def test_an_idle_connection_is_closed_soon_after_the_server_stops(server, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    server.should_exit = True

    assert await asyncio.wait_for(reader.read(), LINGER_SECONDS + 2) == b""
    writer.close()
    await writer.wait_closed()
