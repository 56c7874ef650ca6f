"""The protocol that sends a response in one write."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import struct
import weakref
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.responses import Response, StreamingResponse

from provider_registration.web import server as web_server
from provider_registration.web.server import (
    CHECK_SECONDS,
    LINGER_SECONDS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PARTS,
    MAX_PIPELINED,
    MAX_TARGET_BYTES,
    BundlingProtocol,
)
from provider_registration.web.transport import BundlingTransport


class Recording:
    """A transport that records what was written to it."""

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
    return BundlingTransport(transport, asyncio.get_running_loop())


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


async def test_nothing_is_sent_to_a_client_that_left(bundling, transport):
    bundling.write(b"body")
    transport.is_closed = True
    await asyncio.sleep(0)

    assert transport.told == []


async def test_everything_else_is_the_transports_own(bundling):
    assert bundling.get_extra_info("peername") == "the peername"


LARGE = 400_000  # bytes, which the kernel takes at once


async def application(scope, receive, send):
    async def parts():
        for number in range(3):
            yield b"%d" % number * 100_000
            await asyncio.sleep(0.01)

    if scope["path"] == "/headers":
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
        await Response(b"\n".join(name for name, _ in scope["headers"]))(scope, receive, send)
        return
    if scope["path"] == "/large":
        await Response(b"x" * LARGE)(scope, receive, send)
        return
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
async def test_responses_are_complete_on_a_kept_connection(port, path):
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


async def test_a_request_in_transit_when_the_server_stops_gets_a_response(server, port):
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


@asynccontextmanager
async def connected(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    yield reader, writer
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(web_server, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(web_server, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(web_server, "CHECK_SECONDS", 0.05)


TCP_CLOSE = 7  # tcpi_state of tcp(7)
HEAD = b"GET /short HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.asvs("API4")
@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"a:\r\n" * (MAX_HEAD_BYTES // 4),
        HEAD + b"a:\r\n" * (MAX_HEADERS + 1),
        HEAD + b"a: " + b"x" * MAX_HEAD_BYTES + b"\r\n",
        HEAD + b"x" * MAX_HEAD_BYTES + b": a\r\n",
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n",
    ],
    ids=["many headers", "a header more", "a long value", "a long name", "a long path"],
)
@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["whole", "without end"])
async def test_a_head_that_is_too_long_is_refused(port, head, end):
    async with connected(port) as (reader, writer):
        writer.write(head + end)
        answer = await asyncio.wait_for(reader.read(), 5)

    assert re.search(rb"\r\nX-Request-ID: [0-9a-f]{32}\r\n", answer)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].endswith(":head-too-large")


async def test_a_head_of_the_greatest_length_is_served(port):
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"a: " + b"x" * (MAX_HEAD_BYTES - 700) + b"\r\n")
        writer.write(b"a:\r\n" * (MAX_HEADERS - 2) + b"\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(("more", "status"), [(0, b"200"), (1, b"414")])
async def test_a_path_and_query_over_the_bound_are_refused(port, more, status):
    query = b"a=b&" * MAX_TARGET_BYTES
    async with connected(port) as (reader, writer):
        target = (b"/headers?" + query)[: MAX_TARGET_BYTES + more]
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert (b":target-too-long" in answer) == bool(more)


REFUSED = {
    "head": HEAD + b"a: " + b"x" * MAX_HEAD_BYTES,
    "target": b"GET /" + b"x" * MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP": b"x\r\n",
    "parts": b"POST /headers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1000,
}


@pytest.mark.parametrize("beginning", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_reaches_a_caller_who_is_still_sending(port, beginning):
    """Closing a socket with unread data resets the connection, and nginx then responds 502."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        await asyncio.to_thread(connection.sendall, beginning)
        more = HEAD + b"a: b\r\n" * 20_000
        answer = await asyncio.to_thread(connection.recv, 2**16)
        for _ in range(3):
            await asyncio.to_thread(connection.sendall, more)
            await asyncio.sleep(0.05)
        rest = await asyncio.to_thread(connection.recv, 2**16)

    assert answer[9:12] in (b"400", b"413", b"414", b"431")
    assert rest == b""


async def test_a_refusal_is_not_the_response_to_the_earlier_request(port):
    async with connected(port) as (reader, writer):
        writer.write(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n" + b"x\r\n\r\n")
        with suppress(ConnectionError):
            assert (await asyncio.wait_for(reader.read(), 5))[:12] in (b"", b"HTTP/1.1 200")


async def test_a_request_gets_only_one_response(port):
    async with connected(port) as (reader, writer):
        writer.write(b"POST /short HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.readuntil(b"x" * 50)
        writer.write(b"1\r\na\r\n" * (MAX_PARTS + 10))
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_caller_who_goes_on_sending_after_a_refusal_is_cut_off(server, port, monkeypatch):
    monkeypatch.setattr(web_server, "REFUSED_SECONDS", 0.3)
    async with connected(port) as (_, writer):
        writer.write(b"x\r\n\r\n")
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(10):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
    async with asyncio.timeout(10):
        while server.server_state.connections:
            await asyncio.sleep(0.02)


async def test_a_head_without_end_is_not_read_without_end(port):
    async with connected(port) as (_, writer):
        writer.write(HEAD + b"a: ")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                writer.write(b"x" * 100_000)
                await writer.drain()


async def test_trailers_without_end_are_not_read_without_end(port):
    async with connected(port) as (_, writer):
        writer.write(b"POST /short HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                writer.write(b"a: b\r\n" * 10_000)
                await writer.drain()


@pytest.mark.asvs("API4")
async def test_a_head_that_never_ends_is_refused_and_closed(port, impatient):
    async with connected(port) as (reader, writer):
        writer.write(HEAD)
        answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].endswith(":head-too-slow")


async def test_a_connection_without_a_request_is_closed(port, impatient):
    async with connected(port) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_second_head_has_the_same_time(port, impatient):
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"\r\n")
        await reader.readuntil(b"x" * 50)
        await asyncio.sleep(0.6)  # an idle connection stays
        writer.write(HEAD)
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_nobody_reads_ends_as_well(port, impatient):
    async with connected(port) as (reader, writer):
        writer.write(b"POST /short HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        await reader.readuntil(b"x" * 50)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_connection_goes_on_if_the_rest_of_an_answered_body_comes_soon(port, monkeypatch):
    monkeypatch.setattr(web_server, "REFUSED_SECONDS", 0.3)
    async with connected(port) as (reader, writer):
        writer.write(b"POST /short HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        await reader.readuntil(b"x" * 50)
        writer.write(b"abcde")
        await asyncio.sleep(0.6)
        writer.write(HEAD + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"x" * 50), 5)


async def test_a_line_end_alone_is_not_waited_for_without_end(port, impatient):
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"\r\n")
        await reader.readuntil(b"x" * 50)
        writer.write(b"\r\n")
        await asyncio.wait_for(reader.read(), 5)


async def test_nothing_behind_a_head_that_is_refused_is_served(port):
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"a: " + b"x" * (MAX_HEAD_BYTES + 8000) + b"\r\n\r\n" + HEAD + b"\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"200 OK" not in answer


@pytest.mark.asvs("V4.2.1")
@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length : 5\r\n",
    ],
)
async def test_a_body_whose_length_is_ambiguous_is_refused_with_all_behind_it(port, lengths):
    """Request smuggling: a gateway may see a different length than the service does."""
    async with connected(port) as (reader, writer):
        writer.write(HEAD.replace(b"GET", b"POST") + lengths + b"\r\n0\r\n\r\n" + HEAD + b"\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"200 OK" not in answer


@pytest.mark.asvs("V4.2.1")
async def test_trailers_are_no_headers(port):
    async with connected(port) as (reader, writer):
        writer.write(b"POST /headers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"1\r\na\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Type: a/b\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))

    assert body.split(b"\n") == [b"host", b"transfer-encoding"]


async def test_pipelined_requests_are_bounded(server, port):
    async with connected(port) as (reader, writer):
        writer.write((b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n") * MAX_PIPELINED)
        for _ in range(MAX_PIPELINED):
            await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 10)
    async with connected(port) as (reader, writer):
        writer.write((b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n") * 1000)
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(-1), 10)
    async with asyncio.timeout(10):
        while server.server_state.connections:
            await asyncio.sleep(0.05)


async def test_a_caller_who_reads_nothing_is_not_waited_for(server, port, impatient, monkeypatch):
    monkeypatch.setattr(web_server, "UNREAD_SECONDS", 0.5)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.transport.pause_reading()
    for _ in range(MAX_PIPELINED):
        writer.write(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(20):
        while server.server_state.connections:
            await asyncio.sleep(0.05)
        while writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_CLOSE:
            await asyncio.sleep(0.05)  # the kernel does not retransmit it
    writer.close()


def reader_of_little(port, request):
    """A client that hardly reads the response to its request."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(5)
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n" + request + b"\r\n")
    return connection


def state_of(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


@pytest.mark.parametrize("reads", [0, 512])
async def test_a_caller_who_takes_little_of_what_the_kernel_holds_is_not_waited_for(
    server, port, impatient, monkeypatch, reads
):
    """The kernel had the whole response: the connection seemed idle, and stayed open for 75 s and longer."""
    monkeypatch.setattr(web_server, "UNREAD_SECONDS", 0.5)
    with reader_of_little(port, b"") as connection:
        async with asyncio.timeout(20):
            while state_of(connection) != TCP_CLOSE:
                if reads:
                    with suppress(ConnectionError):
                        await asyncio.to_thread(connection.recv, reads)
                await asyncio.sleep(0.05)
    assert not server.server_state.connections


async def test_a_caller_who_reads_slowly_but_steadily_is_waited_for(port, impatient, monkeypatch):
    monkeypatch.setattr(web_server, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(web_server, "MIN_READ_BYTES", 1)
    with reader_of_little(port, b"") as connection:
        read, end = 0, asyncio.get_running_loop().time() + 2
        while read < LARGE and asyncio.get_running_loop().time() < end:
            read += len(await asyncio.to_thread(connection.recv, 4096))
            await asyncio.sleep(0.02)

        assert state_of(connection) != TCP_CLOSE


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel has no such limit")
async def test_the_kernel_does_not_retransmit_for_long_after_a_close(server, port, monkeypatch):
    monkeypatch.setattr(web_server, "UNREAD_SECONDS", 0.5)
    with reader_of_little(port, b"Connection: close\r\n") as connection:
        own = f"{connection.getsockname()[1]:04X}"
        async with asyncio.timeout(20):
            while server.server_state.connections:
                await asyncio.sleep(0.05)
            while any(f":{own} " in line.split(":", 1)[1][14:32] for line in sockets_of(port)):
                await asyncio.sleep(0.05)


def sockets_of(port):
    """Lines of /proc/net/tcp for this end of connections to a port."""
    with open("/proc/net/tcp") as lines:  # noqa: PTH123 - it is on no disk
        return [line for line in lines if f":{port:04X} " in line[:22]]


@pytest.mark.asvs("V4.2.1")
@pytest.mark.parametrize(
    "sent",
    [
        b"GET foo HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"x\r\n\r\n",
        b"GET /short\r\n\r\n",
        b"GET /short HTTP/0.9\r\nHost: x\r\n\r\n",
        b"GET /short HTTP/2.0\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /short HTTP/1.1\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: [1::2::3]\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: x:99999\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: x/y\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
async def test_invalid_http_gets_a_problem_document(port, sent):
    async with connected(port) as (reader, writer):
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].endswith(":malformed-request")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /short HTTP/1.0\r\n\r\n",
        b"GET /short HTTP/1.0\r\nHost: x\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: api_1.supply.example:5004\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: [::1]:5004\r\n\r\n",
        b"GET http://x/short HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_what_http_allows_is_served(port, head):
    async with connected(port) as (reader, writer):
        writer.write(head)
        assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("beginning", "part"),
    [(b"", b"1\r\na\r\n"), (b"0\r\n", b"a: b\r\n")],
    ids=["chunks", "trailers"],
)
async def test_a_message_has_a_bounded_number_of_parts(port, beginning, part):
    """Each chunk costs some microseconds, even a small one: 64 KiB in one-byte chunks took 0.2 s."""
    head = b"POST /headers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    end = b"\r\n" if beginning else b"0\r\n\r\n"
    async with connected(port) as (reader, writer):
        writer.write(head + beginning + part * (MAX_PARTS - 10) + end)
        assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 200 OK\r\n"
    async with connected(port) as (reader, writer):
        writer.write(head + beginning + part * (MAX_PARTS + 10) + end)
        answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].endswith(":body-too-large")


@asynccontextmanager
async def proxied_server(trusted):
    """A server that trusts X-Forwarded-For from the trusted IP addresses."""
    options = {"port": 0, "http": BundlingProtocol, "lifespan": "off", "log_config": None, "proxy_headers": True}
    server = uvicorn.Server(uvicorn.Config(application, forwarded_allow_ips=trusted, **options))
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1], server
    server.should_exit = True
    await serving


async def connect_from(address, port):
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))


async def status_over(connection):
    reader, writer = connection
    writer.write(HEAD + b"\r\n")
    return (await asyncio.wait_for(reader.readline(), 5))[9:12]


@pytest.mark.asvs("V2.4.1")
async def test_one_address_does_not_take_all_connections(monkeypatch):
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS_PER_NETWORK", 3)
    async with proxied_server("127.0.0.1") as (port, server):
        held = [await connect_from("127.0.0.2", port) for _ in range(3)]
        assert [await status_over(each) for each in held] == [b"200"] * 3
        one_more, elsewhere = await connect_from("127.0.0.2", port), await connect_from("127.0.0.3", port)
        refusal = (await asyncio.wait_for(one_more[0].read(), 5)).decode()
        assert refusal.startswith("HTTP/1.1 429 ")
        assert "\r\nRetry-After: 1\r\n" in refusal
        assert json.loads(refusal.partition("\r\n\r\n")[2])["type"].endswith(":too-many-requests")
        assert await status_over(elsewhere) == b"200"

        held[0][1].close()
        async with asyncio.timeout(10):
            while len(server.server_state.connections) > 3:
                await asyncio.sleep(0.01)
        again = await connect_from("127.0.0.2", port)
        assert await status_over(again) == b"200"
        for _, writer in (*held, one_more, elsewhere, again):
            writer.close()


async def test_a_trusted_proxy_may_have_any_number_of_connections(monkeypatch):
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS_PER_NETWORK", 3)
    async with proxied_server("127.0.0.2") as (port, _):
        held = [await connect_from("127.0.0.2", port) for _ in range(6)]
        assert [await status_over(each) for each in held] == [b"200"] * 6
        for _, writer in held:
            writer.close()


async def test_a_connection_that_is_cut_is_forgotten(server, port):
    """A timer that referred to it kept its requests in memory until it ran: 55 MiB for closed connections."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"\r\n")
    async with asyncio.timeout(10):
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
    [protocol] = server.server_state.connections
    known = weakref.ref(protocol)
    del protocol
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    async with asyncio.timeout(CHECK_SECONDS / 2):
        while known() is not None:
            gc.collect()
            await asyncio.sleep(0.05)
