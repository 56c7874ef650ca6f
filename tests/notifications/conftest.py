"""The real service that sends e-mails to a real mail server, on a database of its own."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from provider_registration.notifications import sender, service
from tests.mail_server import mailbox
from tests.running_service import serving
from tests.service import a_registration, make_settings, token_of_admin

PUBLIC_URL = "https://supply.example"
LINK = re.compile(rf"{PUBLIC_URL}/applications/([A-Za-z0-9_-]{{43}})")


@pytest.fixture(autouse=True)
def without_long_waits(monkeypatch):
    monkeypatch.setattr(sender, "SECONDS", 0.05)
    monkeypatch.setattr(service, "LONGEST_PAUSE", 0.1)


@pytest.fixture
async def box():
    async with mailbox() as box:
        yield box


@pytest.fixture
async def connection(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.fixture
def mail_settings(own_database_url, shared_billing_url, box):
    """Makes settings of a service that sends to the mail server."""

    def mail_settings(**more):
        values = {
            "smtp_url": box.url(),
            "mail_from": "Supply <supply@supply.example>",
            "public_url": PUBLIC_URL,
            "admin_pages": True,
            "database_pool_size": 3,  # one connection takes 0.03 s of processor time
            **more,
        }
        return make_settings(own_database_url, shared_billing_url, **values)

    return mail_settings


class Post:
    """A service that sends e-mails, and what arrives."""

    def __init__(self, client, box, connection):
        self.client = client
        self.box = box
        self.connection = connection

    async def register(self, **changes):
        response = await self.client.post("/candidates", json=a_registration(**changes))
        assert response.status_code == 201, response.text
        return response.json()

    async def decide(self, candidate, decision, **body):
        url = f"/candidates/{candidate['candidate_id']}/{decision}"
        response = await self.client.post(url, json=body)
        assert response.status_code == 200, response.text

    async def mails(self, count, to=None):
        """The mails to an address, or all, when there are so many."""

        def found():
            return self.box.mails if to is None else self.box.to(to)

        async with asyncio.timeout(20):
            while len(found()) < count:
                await asyncio.sleep(0.02)
        await self.rest()
        assert len(found()) == count
        return found()

    async def rest(self):
        """Wait until everything is dispatched, and nothing is due."""
        waiting = """
            SELECT EXISTS (SELECT FROM event_queue) OR EXISTS (
                SELECT FROM deliveries WHERE state = 'delivering' OR state = 'pending' AND next_attempt_at <= now()
            )
        """
        async with asyncio.timeout(20):
            while await self.connection.fetchval(waiting):
                await asyncio.sleep(0.02)

    async def deliveries(self):
        rows = await self.connection.fetch("SELECT * FROM deliveries ORDER BY id")
        return [dict(row) for row in rows]

    async def make_due(self):
        """Let the time of the next try come."""
        await self.connection.execute("UPDATE deliveries SET next_attempt_at = now() WHERE state = 'pending'")

    async def shows_application(self, secret):
        response = await self.client.get(f"/applications/{secret}")
        return response.status_code == 200


@pytest.fixture
def post_office(mail_settings, box, connection):
    """Runs a service that sends e-mails, with an admin signed in."""

    @asynccontextmanager
    async def post_office(**more):
        async with (
            serving(mail_settings(**more)) as running,
            httpx.AsyncClient(base_url=running.url, timeout=30) as client,
        ):
            client.headers["Authorization"] = f"Bearer {await token_of_admin(connection)}"
            yield Post(client, box, connection)

    return post_office


@pytest.fixture
async def post(post_office):
    """Such a service."""
    async with post_office() as post:
        yield post


def text_of(mail):
    return mail.get_body(("plain",)).get_content()


def secret_in(mail):
    """The secret of the link in a mail."""
    return LINK.search(text_of(mail))[1]
