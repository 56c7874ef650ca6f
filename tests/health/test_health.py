"""Health and probes, and responses while the database is unavailable."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from provider_registration import __version__
from provider_registration.auth.models import Role
from provider_registration.db import migrations
from provider_registration.db.revisions import REQUIRED_REVISION
from provider_registration.health import readiness
from tests.pgbouncer import PORT as PGBOUNCER_PORT

HEALTHY = {
    "status": "healthy",
    "service": "provider-registration-service",
    "version": __version__,
    "database": "connected",
    "database_schema": "current",
}
UNHEALTHY = HEALTHY | {"status": "unhealthy", "database": "disconnected", "database_schema": "unknown"}


async def test_with_its_database_the_service_is_healthy(anonymous):
    response = await anonymous.get("/health")

    assert (response.status_code, response.json()) == (200, HEALTHY)


async def test_with_its_database_the_service_is_live_and_ready(anonymous):
    live, ready = await anonymous.get("/health/live"), await anonymous.get("/health/ready")

    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


class Proxy:
    """A TCP proxy in front of PostgreSQL that can close, reopen on its port, or stop forwarding."""

    def __init__(self, host, port):
        self._target = host, port
        self._writers = set()
        self._listener = None
        self.port = 0
        self.speaks = asyncio.Event()

    async def open(self):
        self.speaks.set()
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self):
        self._listener.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._listener.wait_closed()

    async def _connect(self, reader, writer):
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, server_writer}
        if not self._listener.is_serving():  # closed meanwhile
            for each in pair:
                each.transport.abort()
            return
        self._writers |= pair
        await asyncio.gather(self._forward(reader, server_writer), self._forward(server_reader, writer))
        self._writers -= pair

    async def _forward(self, reader, writer):
        try:
            while data := await reader.read(65_536):
                await self.speaks.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


@pytest.fixture
async def proxy(settings):
    parts = urlsplit(settings.database_url)
    proxy = Proxy(parts.hostname, parts.port or 5432)
    await proxy.open()
    yield proxy
    proxy.speaks.set()
    await proxy.close()


@pytest.fixture
def through(settings, run_service, connect):
    """Start a service whose database is at another port; yields a client of it."""

    @asynccontextmanager
    async def through(port, token=None, **more):
        parts = urlsplit(settings.database_url)
        url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
        async with run_service(settings.model_copy(update={"database_url": url, **more})) as service:
            async with connect(service.url, token) as client:
                yield client

    return through


@pytest.fixture
def dead_port():
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def check_unhealthy(client):
    response = await client.get("/health")
    assert (response.status_code, response.json()) == (503, UNHEALTHY)
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()) == (503, {"status": "not ready"})
    response = await client.get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "live"})
    assert (await client.get("/metrics")).status_code == 200


async def test_without_its_database_the_service_starts_and_says_that_it_is_unhealthy(through, dead_port):
    async with through(dead_port) as client:
        await check_unhealthy(client)


@pytest.mark.asvs("V16.5.3")
async def test_without_its_database_everything_else_asks_to_come_back(through, dead_port, tokens, registration):
    async with through(dead_port, tokens[Role.ADMIN]) as client:
        responses = [
            await client.post("/candidates", json=registration()),
            await client.get("/candidates"),
            await client.get("/candidates/00000000-0000-4000-8000-000000000000"),
            await client.post("/candidates/00000000-0000-4000-8000-000000000000/approve"),
            await client.post("/candidates/00000000-0000-4000-8000-000000000000/reject"),
            await client.post("/auth/login", json={"username": "a@example.com", "password": "x"}),
        ]

    for response in responses:
        assert response.status_code == 503
        assert response.json()["type"].endswith(":database-unavailable")
        assert int(response.headers["Retry-After"]) >= 1
        assert "127.0.0.1" not in response.text


async def test_without_its_database_what_is_wrong_in_itself_is_still_refused(through, dead_port):
    async with through(dead_port) as client:
        assert (await client.post("/candidates", json={})).status_code == 422
        assert (await client.get("/candidates")).status_code == 401
        assert (await client.get("/nowhere")).status_code == 404


ANYONE_MAY_ASK_PGBOUNCER = pytest.mark.skipif(PGBOUNCER_PORT in os.environ, reason="PgBouncer takes any name here")


@pytest.mark.parametrize(
    "change", [{"path": "/nosuchdatabase"}, pytest.param({"user": "nosuchuser"}, marks=ANYONE_MAY_ASK_PGBOUNCER)]
)
async def test_a_database_that_refuses_connections_counts_as_unavailable(settings, run_service, connect, change):
    parts = urlsplit(settings.database_url)
    user = change.get("user", parts.username)
    parts = parts._replace(
        path=change.get("path", parts.path), netloc=f"{user}:{parts.password}@{parts.hostname}:{parts.port}"
    )
    async with run_service(settings.model_copy(update={"database_url": parts.geturl()})) as service:
        async with connect(service.url) as client:
            await check_unhealthy(client)


async def test_the_service_recovers_when_its_database_comes_back(through, proxy, registration):
    async with through(proxy.port) as client:
        for _ in range(2):
            responses = await asyncio.gather(*(client.post("/candidates", json=registration()) for _ in range(5)))
            assert {response.status_code for response in responses} == {201}

            await proxy.close()
            await check_unhealthy(client)
            assert (await client.post("/candidates", json=registration())).status_code == 503

            await proxy.open()
            assert (await client.get("/health")).json() == HEALTHY
            responses = await asyncio.gather(*(client.post("/candidates", json=registration()) for _ in range(5)))
            assert {response.status_code for response in responses} == {201}


async def test_a_registration_during_an_outage_can_be_repeated(through, proxy, registration):
    async with through(proxy.port) as client:
        body = registration()
        await proxy.close()
        assert (await client.post("/candidates", json=body)).status_code == 503
        await proxy.open()

        assert (await client.post("/candidates", json=body)).status_code == 201


async def test_a_silent_network_is_not_waited_for(through, proxy, registration):
    loop = asyncio.get_running_loop()
    async with through(proxy.port, database_timeout_seconds=0.4) as client:
        await asyncio.gather(*(client.post("/candidates", json=registration()) for _ in range(3)))
        proxy.speaks.clear()

        started = loop.time()
        unhealthy, *refused = await asyncio.gather(
            client.get("/health"), *(client.post("/candidates", json=registration()) for _ in range(20))
        )
        assert loop.time() - started < 1

        assert unhealthy.json() == UNHEALTHY
        assert {response.status_code for response in refused} == {503}
        proxy.speaks.set()
        assert (await client.get("/health")).json() == HEALTHY
        assert (await client.post("/candidates", json=registration())).status_code == 201


@pytest.fixture
async def schema(own_database_url, settings, run_service, connect, caplog):
    """A service with its own database at head, whose schema may change; yields a client and the database URL."""
    with caplog.at_level(logging.WARNING, readiness.__name__):
        async with run_service(
            settings.model_validate(settings.model_dump() | {"database_url": own_database_url})
        ) as s:
            async with connect(s.url) as client:
                yield client, own_database_url


async def states(client):
    """The response of `ready`, and the state of the database in `/health`."""
    ready, health = await client.get("/health/ready"), await client.get("/health")
    assert ready.status_code == health.status_code == {"healthy": 200, "unhealthy": 503}[health.json()["status"]]
    return ready.status_code, health.json()["database"], health.json()["database_schema"]


def complaints(caplog):
    """What was logged about the schema since the last call."""
    said = [record.getMessage() for record in caplog.records if record.name == readiness.__name__]
    caplog.clear()
    return said


async def test_a_schema_older_than_the_code_is_not_ready_until_it_is_migrated(schema, caplog):
    client, url = schema
    assert await states(client) == (200, "connected", "current")

    await asyncio.to_thread(migrations.downgrade, url, "014_search_indexes")
    for _ in range(3):
        assert await states(client) == (503, "connected", "older")
    [said] = complaints(caplog)
    assert "014_search_indexes" in said
    assert REQUIRED_REVISION in said

    await asyncio.to_thread(migrations.downgrade, url, "base")
    assert await states(client) == (503, "connected", "missing")
    [said] = complaints(caplog)
    assert "no tables" in said

    await asyncio.to_thread(migrations.upgrade, url)
    assert await states(client) == (200, "connected", "current")
    assert complaints(caplog) == []


async def test_the_same_complaint_is_repeated_after_a_while(schema, caplog, monkeypatch):
    client, url = schema
    await asyncio.to_thread(migrations.downgrade, url, "014_search_indexes")
    monkeypatch.setattr(readiness, "REPEAT_SECONDS", 0)

    await states(client)

    assert len(complaints(caplog)) == 2


async def test_a_database_that_was_never_migrated_is_not_ready(schema):
    client, url = schema
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE alembic_version")
    await connection.close()

    assert await states(client) == (503, "connected", "missing")


async def test_a_schema_that_a_newer_release_migrated_will_do(schema, caplog):
    client, url = schema
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE alembic_version SET version_num = '999_of_a_newer_release'")
    await connection.close()

    assert await states(client) == (200, "connected", "newer")
    assert complaints(caplog) == []


@ANYONE_MAY_ASK_PGBOUNCER
async def test_a_role_that_may_not_read_the_revision_serves_with_a_warning(
    schema, settings, run_service, connect, caplog
):
    _, url = schema
    owner = await asyncpg.connect(url)
    role = f"test_{uuid4().hex}"
    await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    try:
        parts = urlsplit(url)
        theirs = parts._replace(netloc=f"{role}:secret@{parts.hostname}:{parts.port}").geturl()
        restricted = settings.model_validate(settings.model_dump() | {"database_url": theirs})
        async with run_service(restricted) as service, connect(service.url) as client:
            assert await states(client) == (200, "connected", "unknown")
            [said] = complaints(caplog)
            assert "--grant-to" in said
    finally:
        await owner.execute(f"DROP ROLE {role}")
        await owner.close()
