"""After `erase-data`, a dump of the whole database has nothing of the person, whoever repeated it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from click.testing import CliRunner

from provider_registration.auth.models import Role
from provider_registration.cli import main
from provider_registration.local.accounts import installed_programs
from provider_registration.local.postgres import ENVIRONMENT
from tests.mail_server import mailbox
from tests.running_service import serving
from tests.service import PASSWORD, make_settings, user_directory

NAME, EMAIL = "Krämer Rarobst", "lena.kraemer@rarobst.example"
PHONE, PLACE = "+49 6221 7654321", "Zwingenberg am Neckar"
REASON = "Lena Kraemer did not answer"
COMPANY = {
    "company_name": NAME,
    "contact_email": EMAIL,
    "phone": PHONE,
    "location": PLACE,
    "products": ["apples"],
    "truck_count": 1,
    "capacity_tons_per_day": 1,
}
PERSONAL = ("rarobst", "kraemer", "krämer", "7654321", "zwingenberg", "lena")
UNSETTLED = """
    SELECT EXISTS (SELECT FROM event_queue)
        OR EXISTS (SELECT FROM deliveries WHERE state = 'delivering' OR attempts = 0)
"""


@asynccontextmanager
async def receiver_that_repeats():
    """The port of a receiver of webhooks that fails, and names the company."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = f"no such supplier: {NAME} <{EMAIL}>".encode()
        writer.write(b"HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def dump(database_url):
    """Every row of the database, in lower case."""
    process = await asyncio.create_subprocess_exec(
        *(installed_programs() / "pg_dump", "--data-only", "--inserts", database_url),
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().lower()


@pytest.fixture
async def told(own_database_url, shared_billing_url):
    """A database in which a company was registered, could not be approved, was told of, and was rejected."""
    async with user_directory(own_database_url) as users:
        await users.create("admin@supply.example", PASSWORD, Role.ADMIN)
    async with mailbox() as box, receiver_that_repeats() as port:
        box.always["RCPT"] = f"550 5.1.1 <{EMAIL}> of {NAME} is unknown"
        settings = make_settings(
            own_database_url,
            shared_billing_url,
            smtp_url=box.url(),
            mail_from="supply@supply.example",
            public_url="https://supply.example",
            billing_max_tries=1,
            webhooks_allow_http=True,
            webhooks_allowed_networks="127.0.0.0/8",
        )
        async with serving(settings) as service, httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            login = await client.post("/auth/login", json={"username": "admin@supply.example", "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
            assert (await client.post("/webhooks", json={"url": f"http://127.0.0.1:{port}/"})).status_code == 201
            registered = await client.post("/candidates", json=COMPANY)
            path = f"/candidates/{registered.json()['candidate_id']}"
            async with httpx.AsyncClient(base_url=shared_billing_url) as billing:
                await billing.put("/sandbox/faults", json={"mode": "refuse_400", "names": [NAME]})
                assert (await client.post(f"{path}/approve")).status_code == 502
                await billing.put("/sandbox/faults", json={"mode": "none"})
            assert (await client.post(f"{path}/reject", json={"reason": REASON})).status_code == 200
            await client.post("/applications/lost", json={"contact_email": EMAIL})
            connection = await asyncpg.connect(own_database_url)
            async with asyncio.timeout(30):
                while await connection.fetchval(UNSETTLED):
                    await asyncio.sleep(0.05)
            await connection.close()
    return own_database_url


async def test_no_personal_value_is_left_anywhere(told):
    before = await dump(told)
    assert all(word in before for word in PERSONAL)
    assert before.count(NAME.lower()) > 1, "the error of billing or of the receiver repeats it"

    erased = await asyncio.to_thread(
        CliRunner().invoke, main, ["erase-data", EMAIL], input="y\n", env={"DATABASE_URL": told}
    )

    assert erased.exit_code == 0, erased.output
    after = await dump(told)
    assert [word for word in PERSONAL if word in after] == []
