"""Whoever may not send a file is told at once, and cannot make the service read it or keep the connection open."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.imports.limits import MAX_FILE_BYTES
from provider_registration.serving import KEEP_ALIVE_SECONDS
from provider_registration.web import body as web_body
from provider_registration.web.body import MAX_BODY_BYTES, Allowance
from provider_registration.web.server import MAX_MESSAGE_BYTES, BundlingProtocol
from tests.service import make_settings

SECONDS = 10  # for a whole test: the response and the end of the connection
CHUNK = b"2000\r\n" + b"a" * 0x2000 + b"\r\n"
LARGEST_READ = 256 * 1024  # bytes that asyncio reads at once
CHUNKED = "Transfer-Encoding: chunked"
ANNOUNCED = f"Content-Length: {MAX_FILE_BYTES}"


async def flood(writer):
    while True:
        writer.write(CHUNK)
        await writer.drain()


async def drip(writer):
    while True:
        writer.write(b"1\r\na\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)


async def announce(writer):
    await asyncio.Event().wait()


@asynccontextmanager
async def serving(settings):
    """A service with the protocol that `serve` uses, unlike that of other tests; yields its port."""
    config = uvicorn.Config(
        create_app(settings), port=0, http=BundlingProtocol, timeout_keep_alive=KEEP_ALIVE_SECONDS, log_config=None
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


@pytest.fixture(scope="module")
async def port(settings):
    async with serving(settings) as port:
        yield port


BODIES = {"endless": (CHUNKED, flood), "slow": (CHUNKED, drip), "only announced": (ANNOUNCED, announce)}


@pytest.fixture
def read(monkeypatch):
    """What the service reads: bytes of each connection, and of each body that a route or middleware reads."""
    connections, bodies = {}, []
    receive = BundlingProtocol.data_received

    def data_received(protocol, data):
        connections[protocol] = connections.get(protocol, 0) + len(data)
        receive(protocol, data)

    def allowance(**how):
        bodies.append(Allowance(**how))
        return bodies[-1]

    monkeypatch.setattr(BundlingProtocol, "data_received", data_received)
    monkeypatch.setattr(web_body, "Allowance", allowance)
    return connections, bodies


async def send(port, path, headers, sending):
    """Send a request until its connection is closed; return the response, and the seconds until it came."""
    started = time.monotonic()
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode())
        sender = asyncio.create_task(sending(writer))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            seconds = time.monotonic() - started
            with suppress(ConnectionError):  # a reset ends the connection too
                while await reader.read(65536):
                    pass
        finally:
            sender.cancel()
            writer.close()
            await asyncio.wait([sender])
    return head, seconds


@pytest.fixture(params=BODIES.values(), ids=BODIES)
async def refused(request, read):
    """Checks that a request is refused with a status before its body is read, and its connection closed."""
    framing, sending = request.param

    async def refused(port, path, status, *headers):
        head, seconds = await send(port, path, [framing, *headers], sending)
        connections, bodies = read
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
        assert seconds < SECONDS / 2
        assert sum(body.read for body in bodies) <= MAX_BODY_BYTES
        assert sum(connections.values()) <= MAX_MESSAGE_BYTES + 2 * LARGEST_READ

    return refused


CSV = "Content-Type: text/csv"


@pytest.mark.parametrize("headers", [(), ("Authorization: Bearer wrong",)], ids=["no token", "a wrong token"])
async def test_a_stranger_is_refused(port, refused, headers):
    await refused(port, "/imports", 401, CSV, *headers)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
async def test_staff_without_the_permission_are_refused(port, tokens, refused, role):
    await refused(port, "/imports", 403, CSV, f"Authorization: Bearer {tokens[role]}")


async def test_an_admin_over_the_rate_limit_is_refused(
    migrated_database_url, shared_billing_url, connect, tokens, refused
):
    settings = make_settings(migrated_database_url, shared_billing_url, rate_limit_default="1/hour")
    async with serving(settings) as port:
        async with connect(f"http://127.0.0.1:{port}", tokens[Role.ADMIN]) as admin:
            assert (await admin.get("/imports")).status_code == 200
        await refused(port, "/imports", 429, CSV, f"Authorization: Bearer {tokens[Role.ADMIN]}")


async def test_nobody_sends_a_file_to_the_console_without_signing_in(
    migrated_database_url, shared_billing_url, refused
):
    settings = make_settings(migrated_database_url, shared_billing_url, admin_pages=True)
    form = "Content-Type: multipart/form-data; boundary=x"
    async with serving(settings) as port:
        await refused(port, "/admin/imports", 303, form, "Sec-Fetch-Site: same-origin", "Accept: text/html")
