"""Responses are the bytes that uvicorn's own protocol sends; the head and a body that follows it are one write."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from provider_registration.web.headers import RAW_SECURITY_HEADERS
from provider_registration.web.server import BundlingProtocol
from provider_registration.web.transport import BundlingTransport


def start(status=200, *headers):
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content=b"", *, more=False):
    return {"type": "http.response.body", "body": content, "more_body": more}


def length(number):
    return b"content-length", b"%d" % number


LARGE = 3_000_000  # bytes, more than the kernel takes at once
RESPONSES = {
    "body": [start(200, length(5), *RAW_SECURITY_HEADERS), body(b"12345")],
    "empty": [start(200, length(0)), body()],
    "204": [start(204, *RAW_SECURITY_HEADERS), body()],
    "304": [start(304, (b"etag", b'"1"')), body()],
    "304-with-length": [start(304, length(5)), body()],
    "unknown-status": [start(599, length(1)), body(b"x")],
    "chunks": [start(200), body(b"a" * 20, more=True), body(b"", more=True), body(b"b", more=True), body()],
    "one-chunk": [start(200), body(b"a")],
    "no-chunk": [start(200), body()],
    "parts": [start(200, length(4)), body(b"ab", more=True), body(b"", more=True), body(b"cd")],
    "own-encoding": [start(200, (b"Transfer-Encoding", b"Chunked")), body(b"a", more=True), body(b"b")],
    "own-encoding-and-length": [start(200, length(1), (b"transfer-encoding", b"chunked")), body(b"ab")],
    "two-lengths": [start(200, length(2), length(1)), body(b"ab")],
    "closes": [start(200, length(1), (b"Connection", b"x, Close")), body(b"a")],
    "keeps": [start(200, length(1), (b"connection", b"keep-alive")), body(b"a")],
    "names": [start(200, (b"Content-Length", b"1"), (b"X-Two", b"a"), (b"X-Two", b"b")), body(b"a")],
    "obsolete-text": [start(200, length(1), (b"x-text", b"\xe9\tb")), body(b"a")],
    "large": [start(200, length(LARGE)), body(b"x" * LARGE)],
    "large-parts": [start(200), *[body(b"x" * (LARGE // 10), more=True)] * 10, body()],
    "later": [start(200, length(1)), 0.02, body(b"a")],
    "later-chunks": [start(200), 0.02, body(b"a", more=True), 0.02, body(b"b")],
    "reads": ["receive", start(200, length(1)), body(b"a")],
    "reads-after-start": [start(200, length(1)), "receive", body(b"a")],
    "too-long": [start(200, length(1)), body(b"abc")],
    "too-long-later": [start(200, length(2)), body(b"ab", more=True), 0.02, body(b"c")],
    "too-short": [start(200, length(5)), body(b"abc")],
    "too-short-without-body": [start(200, length(5)), body()],
    "invalid-length": [start(200, (b"content-length", b"x")), body(b"a")],
    "invalid-value": [start(200, length(1), (b"x-a", b"a\r\nx-b: b")), body(b"a")],
    "invalid-name": [start(200, length(1), (b"x a", b"a")), body(b"a")],
    "invalid-value-of-a-constant": [start(200, length(1), (RAW_SECURITY_HEADERS[0][0], b"a\x00")), body(b"a")],
    "fails": [ValueError],
    "fails-after-start": [start(200, length(1)), ValueError],
    "fails-later": [start(200, length(1)), 0.02, ValueError],
    "fails-after-part": [start(200), body(b"a", more=True), ValueError],
    "fails-after-end": [start(200, length(1)), body(b"a"), ValueError],
    "nothing": [],
    "no-body": [start(200, length(1))],
    "no-end": [start(200), body(b"a", more=True)],
    "starts-twice": [start(200, length(1)), start(200, length(1)), body(b"a")],
    "body-first": [body(b"a")],
    "ends-twice": [start(200, length(1)), body(b"a"), body(b"b")],
    "starts-after-end": [start(200, length(1)), body(b"a"), start(200)],
}


class Application:
    """Responds with what RESPONSES has for a path, and records what the client did."""

    def __init__(self):
        self.received = []

    async def __call__(self, scope, receive, send):
        for step in RESPONSES[scope["path"].strip("/")]:
            match step:
                case "receive":
                    self.received.append(await receive())
                case asyncio.Event():
                    await step.wait()
                case float():
                    await asyncio.sleep(step)
                case dict():
                    await send(step)
                case error:
                    raise error


@pytest.fixture
async def servers():
    """Ours and uvicorn's own."""
    made = []
    for protocol in (BundlingProtocol, HttpToolsProtocol):
        application = Application()
        options = {"port": 0, "http": protocol, "lifespan": "off", "log_config": None, "date_header": False}
        config = uvicorn.Config(application, headers=[("X-Default", "a")], **options)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        made.append((server, application, serving))
    yield made
    for server, _, serving in made:
        server.should_exit = True
        await serving


async def both(servers, sent, *, pause=0.0):
    """What each server sends to a client that sends this, until it closes the connection."""
    return [await exchange(server, sent, pause=pause) for server, _, _ in servers]


async def exchange(server, sent, *, pause=0.0):
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await asyncio.sleep(pause)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def request(path, *, method=b"GET", version=b"1.1", headers=b""):
    return b"%b /%b HTTP/%b\r\nHost: x\r\n%b\r\n" % (method, path.encode(), version, headers)


LAST = request("body", headers=b"Connection: close\r\n")


@pytest.mark.parametrize("path", RESPONSES)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_response_on_a_kept_connection(servers, path, method):
    ours, uvicorns = await both(servers, request(path, method=method) + LAST)

    assert ours == uvicorns


@pytest.mark.parametrize("path", RESPONSES)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_response_on_a_connection_that_is_closed(servers, path, version):
    ours, uvicorns = await both(servers, request(path, version=version, headers=b"Connection: close\r\n"))

    assert ours == uvicorns


async def test_http_1_0_with_keep_alive(servers):
    ours, uvicorns = await both(servers, request("body", version=b"1.0", headers=b"Connection: keep-alive\r\n"))

    assert ours == uvicorns
    assert b"connection: close\r\n" in ours


@pytest.mark.parametrize("path", ["body", "reads", "reads-after-start", "chunks"])
async def test_a_body_that_waits_for_100_continue(servers, path):
    head = request(path, method=b"POST", headers=b"Expect: 100-continue\r\nContent-Length: 3\r\n")
    ours, uvicorns = await both(servers, head + b"abc" + LAST)

    assert ours == uvicorns
    assert (b"HTTP/1.1 100 Continue\r\n\r\n" in ours) == (path == "reads")
    assert servers[0][1].received == servers[1][1].received


async def test_pipelined_requests(servers):
    paths = ["body", "chunks", "204", "large", "later", "empty", "large-parts", "body"]
    ours, uvicorns = await both(servers, b"".join(map(request, paths)) + LAST)

    assert ours == uvicorns
    assert ours.count(b"HTTP/1.1 20") == len(paths) + 1


@pytest.mark.parametrize("path", ["large", "large-parts"])
async def test_a_client_that_reads_late(servers, path):
    ours, uvicorns = await both(servers, request(path) + LAST, pause=0.1)

    assert ours == uvicorns
    assert len(ours) > LARGE


async def test_a_date(servers):
    for server, _, _ in servers:
        server.config.encoded_headers.insert(0, (b"date", b"Mon, 30 Nov 2026 00:00:00 GMT"))
        server.server_state.default_headers = server.config.encoded_headers  # as the server itself does each second
    ours, uvicorns = await both(servers, request("body") + LAST)

    assert ours == uvicorns
    assert ours.startswith(
        b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\nx-default: a\r\n"
    )


@pytest.mark.parametrize("path", ["reads", "large-parts"])
async def test_a_client_that_leaves(servers, path, monkeypatch):
    steps = [0.1, "receive", "receive", *RESPONSES[path], "receive"]
    monkeypatch.setitem(RESPONSES, path, steps)
    for server, application, _ in servers:
        port = server.servers[0].sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(path))
        await asyncio.sleep(0.05)
        writer.transport.abort()
        async with asyncio.timeout(10):
            while server.server_state.tasks:
                await asyncio.sleep(0.01)
        assert application.received[-1] == {"type": "http.disconnect"}
    assert servers[0][1].received == servers[1][1].received


async def test_an_event_stream_has_its_head_and_each_event_at_once(servers, monkeypatch):
    first, end = asyncio.Event(), asyncio.Event()
    head = start(200, (b"content-type", b"text/event-stream"))
    monkeypatch.setitem(RESPONSES, "events", [head, first, body(b"data: 1\n\n", more=True), end, body()])
    port = servers[0][0].servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request("events"))
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        first.set()
        assert await reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
        end.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
    writer.close()
    await writer.wait_closed()


@pytest.fixture
def writes(monkeypatch):
    """The numbers of bytes that were written to the connections at once."""
    found = []
    flush = BundlingTransport._flush

    def record(self):
        before = self.written
        flush(self)
        found.append(self.written - before)

    monkeypatch.setattr(BundlingTransport, "_flush", record)
    return found


@pytest.mark.parametrize("path", ["body", "empty", "204", "one-chunk"])
async def test_a_response_is_one_write(servers, writes, path):
    answer = await exchange(servers[0][0], request(path, headers=b"Connection: close\r\n"))

    assert [each for each in writes if each] == [len(answer)]
