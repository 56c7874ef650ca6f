"""Connections to billing: kept alive, used by one request at a time, and replaced after an error."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress
from itertools import count
from time import monotonic

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from provider_registration.billing import connections as module
from provider_registration.billing.connections import open_session
from provider_registration.local.background_server import serve_in_background

COUNT = 3
TLS_RECORD = 16 * 1024  # bytes of content
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %05d\r\n\r\n"
BEHIND = {
    "another response": HEAD % 1 + b"0",
    "a line end": b"\r\n",
    "half a head": HEAD[:20],
}


@pytest.fixture(scope="module")
async def url():
    """A server that returns the client's port, after the seconds given in the path."""

    async def port(request):
        await asyncio.sleep(float(request.path_params["seconds"]))
        return PlainTextResponse(str(request.client.port))

    async def unfinished(_request):
        async def body():
            yield "0"
            await asyncio.sleep(10)

        return StreamingResponse(body())

    routes = [Route("/unfinished", unfinished), Route("/{seconds}", port)]
    async with serve_in_background(Starlette(routes=routes)) as url:
        yield url


@pytest.fixture
async def session():
    module._tls.cache_clear()  # a test changes it
    async with open_session(COUNT, timeout=10.0, connect_timeout=2.0) as session:
        yield session
    module._tls.cache_clear()


@pytest.fixture
def ask(session, url):
    """Send one request; return the port of the connection."""

    async def ask(seconds=0.0, **how):
        async with session.get(f"{url}/{seconds}", **how) as response:
            return await response.text()

    return ask


async def test_one_after_the_other_use_the_same_connection(ask):
    assert len({await ask() for _ in range(5)}) == 1


async def test_concurrent_requests_share_the_allowed_connections(ask):
    ports = await asyncio.gather(*(ask(0.05) for _ in range(4 * COUNT)))

    assert len(ports) == 4 * COUNT
    assert len(set(ports)) == COUNT


async def test_waiting_too_long_for_a_connection_is_an_error(ask):
    users = [asyncio.create_task(ask(1.0)) for _ in range(COUNT)]
    await asyncio.sleep(0.1)

    started = monotonic()
    with pytest.raises(aiohttp.ConnectionTimeoutError):
        await ask(timeout=aiohttp.ClientTimeout(connect=0.2))
    assert monotonic() - started < 0.8  # before any of the users was ready

    assert len(set(await asyncio.gather(*users))) == COUNT
    assert await ask()


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_connection_on_which_something_went_wrong_is_not_used_again(ask, session, url, how):
    used = set()
    for _ in range(2 * COUNT):
        used.add(await ask())
        if how == "fails":
            with pytest.raises(ZeroDivisionError):
                async with session.get(f"{url}/unfinished"):
                    raise ZeroDivisionError
        else:
            asking = asyncio.create_task(ask(5.0))
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    assert len(used) == 2 * COUNT


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Files with a new certificate of 127.0.0.1, and with its key."""
    files = [tmp_path_factory.mktemp("tls") / name for name in ("certificate.pem", "key.pem")]
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    more = ("-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1])
    subprocess.run([*new.split(), *more], check=True, capture_output=True)
    return files


@asynccontextmanager
async def counting(behind, tls):
    """A server that returns the number of the request, in a TLS record, with other bytes behind it; its URL."""
    numbers = count(1)

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                length = TLS_RECORD - len(HEAD % 0)
                writer.write(HEAD % length + str(next(numbers)).encode().ljust(length) + behind)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{'https' if tls else 'http'}://{host}:{port}"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
async def test_bytes_behind_a_response_do_not_belong_to_the_next(session, certificate, scheme, behind):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if scheme == "https" else None
    if tls:
        tls.load_cert_chain(*certificate)
        session.connector._ssl.load_verify_locations(certificate[0])

    async with counting(behind, tls) as url:
        texts = []
        for _ in range(3):
            async with session.get(url) as response:
                texts.append((await response.text()).strip())

    assert texts == ["1", "2", "3"]


@pytest.mark.parametrize("before", [None, 1, 16, -1], ids=["all", "a byte", "a part of the head", "all but a byte"])
async def test_bytes_that_come_later_do_not_belong_to_the_next(session, before):
    """What comes while the connection is idle, for example the 408 of a server that waits no longer.

    Of `before` bytes, the rest comes with the next response.
    """
    numbers = count(1)
    late = HEAD % 1 + b"0"

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(HEAD % 1 + str(next(numbers)).encode())
                await asyncio.sleep(0.05)
                writer.write(late[:before])
                if before is not None and await reader.readuntil(b"\r\n\r\n"):
                    writer.write(late[before:])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        texts = []
        for _ in range(3):
            async with session.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as response:
                texts.append(await response.text())
            await asyncio.sleep(0.1)

    assert texts == ["1", "2", "3"]


async def test_each_idle_connection_is_looked_at(session, monkeypatch):
    """Also the second, where the first was kept for too long."""
    monkeypatch.setattr(session.connector, "_keepalive_timeout", 0.3)
    monkeypatch.setattr(session.connector, "_cleanup", lambda: None)  # it runs from time to time
    numbers, both = count(1), asyncio.Barrier(2)

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                number = next(numbers)
                if number <= 2:
                    await both.wait()
                    await asyncio.sleep(0.2 * (number - 1))
                writer.write(HEAD % 1 + str(number).encode())
                if number == 2:
                    await asyncio.sleep(0.05)
                    writer.write(HEAD % 1 + b"0")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        async def ask():
            async with session.get(url) as response:
                return await response.text()

        assert sorted(await asyncio.gather(ask(), ask())) == ["1", "2"]
        await asyncio.sleep(0.2)  # the first is expired, the second is not
        assert await ask() == "3"


async def test_no_request_is_sent_on_a_connection_that_the_server_has_closed_unnoticed(session):
    """The loop has not run since: only the kernel knows."""
    accepted = []

    def accept(listener):
        connection, _ = listener.accept()
        accepted.append(connection)
        connection.recv(1000)
        connection.sendall(HEAD % 1 + b"0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for _ in range(2):
            accepting = asyncio.create_task(asyncio.to_thread(accept, listener))
            async with session.get(url) as response:
                assert await response.text() == "0"
            await accepting
            accepted[-1].close()

    assert len(accepted) == 2


async def test_the_environment_names_no_certificates(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "there is none"))
    module._tls.cache_clear()

    await open_session(COUNT, timeout=1.0, connect_timeout=1.0).close()
