"""Logs and metrics never contain data from requests, whatever arrives and whatever fails."""

from __future__ import annotations

import asyncio
import random
import socket
import string
from contextlib import suppress
from http.client import HTTPConnection
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest

from .conftest import PASSWORD

SCRAPE_TOKEN = f"scrape-{uuid4().hex}"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND", "MKCOL", "SEARCH", "LINK", "PURGE"]
MORE_SERIES = 500  # every method on every route that random paths match: a counter per status, 15 per histogram


@pytest.fixture(scope="module")
async def chatty(serving, environment, tmp_path_factory):
    """A service with the most verbose log; RATE_LIMIT_DEFAULT is off because all requests have one IP address."""
    more = {"LOG_LEVEL": "DEBUG", "METRICS_TOKEN": SCRAPE_TOKEN, "RATE_LIMIT_DEFAULT": "", "PUBLIC_PAGES": "true"}
    async with serving({**environment, **more}, tmp_path_factory.mktemp("chatty")) as process:
        yield process


@pytest.fixture(scope="module")
async def client(chatty):
    async with httpx.AsyncClient(base_url=chatty.url, timeout=30) as client:
        yield client


async def metrics_of(client):
    response = await client.get("/metrics", headers={"Authorization": f"Bearer {SCRAPE_TOKEN}"})
    assert response.status_code == 200
    return response.text


def check_nothing_leaked(texts, secrets):
    for secret in secrets:
        assert len(secret) > 5, "too short to be found by accident"
        for text in texts:
            assert secret.lower() not in text.lower(), secret


async def use_everything(client, admin_email, registration):
    """Register, log in, decide and cause many errors; return the sent data that must not appear anywhere."""
    marks = {
        name: f"{name}-{uuid4().hex}"
        for name in ("company", "place", "reason", "query", "header", "body", "path", "form")
    }
    phone = "+49 221 " + "".join(random.choices(string.digits, k=9))  # noqa: S311 - not a secret
    email = f"sent-{uuid4().hex}@obsthof.example"
    sent = registration(contact_email=email, company_name=marks["company"], phone=phone, location=marks["place"])

    candidate = (await client.post("/candidates", json=sent)).json()
    for body in (sent, {**sent, "phone": None}, {**sent, marks["body"]: 1}, {**sent, "products": [marks["body"]]}):
        assert (await client.post("/candidates", json=body)).status_code in (409, 422)
    await client.post("/candidates", content=marks["body"], headers={"Content-Type": "application/json"})
    bad = await client.post("/auth/login", json={"username": admin_email, "password": marks["body"]})
    assert bad.status_code == 401
    tokens = (await client.post("/auth/login", data={"username": admin_email, "password": PASSWORD})).json()
    admin = {"Authorization": f"Bearer {tokens['access_token']}"}
    path = f"/candidates/{candidate['candidate_id']}"
    assert (await client.get(path, headers=admin)).status_code == 200
    await client.get("/candidates", params={"status": marks["query"], "product": marks["query"]}, headers=admin)
    await client.get(f"/{marks['path']}", params={marks["query"]: "1"}, headers={"X-Mark": marks["header"]})
    await client.get(path, headers={"Authorization": f"Bearer {marks['header']}", "User-Agent": marks["header"]})
    await client.get(
        path, headers={**admin, "If-Match": f'"{marks["header"]}"', "X-Request-ID": f"{marks['header']} {{"}
    )
    assert (await client.post(f"{path}/reject", json={"reason": marks["reason"]}, headers=admin)).status_code == 200
    links = await use_pages(client, candidate, admin, registration(company_name=marks["form"]), marks["path"])
    assert (await client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})).status_code == 200
    secrets = [*marks.values(), *tokens_of(tokens), *links]
    return [admin_email, PASSWORD, email, phone, phone.replace(" ", ""), *secrets]


async def use_pages(client, candidate, admin, typed, guess):
    """Apply, open the links, replace one; return the links' secrets."""
    replaced = await client.post(f"/candidates/{candidate['candidate_id']}/status-link", headers=admin)
    applied = await client.post("/apply", data=typed)
    assert (await client.post("/apply", data={**typed, "truck_count": typed["company_name"]})).status_code == 422
    links = [candidate["status_url"], replaced.json()["status_url"], applied.headers["Location"]]
    assert [(await client.get(link)).status_code for link in links] == [404, 200, 200]
    for method in ("GET", "POST", "PATCH"):  # also where no route accepts it
        await client.request(method, f"/applications/{guess}")
        await client.request(method, f"{links[2]}/more")
    return [link.rpartition("/")[2] for link in links]


def tokens_of(tokens):
    return [tokens["access_token"], tokens["access_token"].split(".")[2], tokens["refresh_token"]]


@pytest.mark.asvs("V14.1.2", "V14.2.4", "V16.2.5")
async def test_what_was_sent_is_neither_logged_nor_measured(chatty, client, admin_email, registration):
    secrets = await use_everything(client, admin_email, registration)

    texts = [chatty.log.read_text(), await metrics_of(client)]

    assert len(chatty.lines()) > 10
    check_nothing_leaked(texts, [*secrets, SCRAPE_TOKEN])


@pytest.mark.asvs("V16.2.1")
async def test_a_line_has_the_id_of_the_user(chatty, client, admin_email, migrated_database_url):
    ours = {"X-Request-ID": uuid4().hex}
    login = await client.post("/auth/login", json={"username": admin_email, "password": PASSWORD}, headers=ours)
    await client.get("/candidates", headers={"Authorization": f"Bearer {login.json()['access_token']}", **ours})

    connection = await asyncpg.connect(migrated_database_url)
    user_id = await connection.fetchval("SELECT id FROM users WHERE email = $1", admin_email)
    await connection.close()
    requests = [line for line in chatty.lines() if line["message"] == "request" and line["request_id"] in ours.values()]
    assert [line.get("user_id") for line in requests if line["endpoint"] == "/candidates"] == [str(user_id)]
    assert not [line for line in requests if line["endpoint"] == "/auth/login" and "user_id" in line]


@pytest.mark.asvs("V16.2.5")
async def test_what_was_sent_is_not_logged_when_something_raises(
    serving, environment, empty_database_url, tmp_path, registration
):
    async with serving({**environment, "DATABASE_URL": empty_database_url, "LOG_LEVEL": "DEBUG"}, tmp_path) as process:
        sent = registration(phone="+49 221 5550 100")
        async with httpx.AsyncClient(base_url=process.url) as client:
            without_tables = [
                await client.post("/candidates", json=sent),
                await client.post("/auth/login", json={"username": sent["contact_email"], "password": PASSWORD}),
            ]
        text = process.log.read_text()
        lines = process.lines()

    assert {response.status_code for response in without_tables} == {500}
    assert [line for line in lines if "UndefinedTable" in str(line.get("exc_info"))]
    password = urlsplit(environment["DATABASE_URL"]).password
    secrets = [sent["contact_email"], sent["phone"], sent["company_name"], PASSWORD]
    check_nothing_leaked([text], secrets + ([password] if password else []))


async def test_a_row_that_the_database_refuses_is_not_logged(chatty, client, registration, migrated_database_url):
    sent = registration(phone="+49 221 5550 100")
    connection = await asyncpg.connect(migrated_database_url)
    refusing = "ALTER TABLE candidates ADD CONSTRAINT refuses_all CHECK (company_name <> company_name) NOT VALID"
    try:
        await connection.execute(refusing)
        response = await client.post("/candidates", json=sent)
    finally:
        await connection.execute("ALTER TABLE candidates DROP CONSTRAINT IF EXISTS refuses_all")
        await connection.close()

    assert response.status_code == 500
    async with asyncio.timeout(10):  # lines are written by a thread
        while "CheckViolation" not in chatty.log.read_text():
            await asyncio.sleep(0.05)
    check_nothing_leaked(
        [chatty.log.read_text(), response.text], [sent["contact_email"], sent["phone"], sent["company_name"]]
    )


@pytest.mark.asvs("V16.2.4")
async def test_broken_requests_leave_whole_lines(chatty, client):
    address = urlsplit(chatty.url)
    requests = [
        b"GET /a%0d%0a%7b%22level%22:%22forged%22%7d HTTP/1.1\r\nHost: x\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\r\n {"level": "forged"}\r\n\r\n',
        b"GET /\r\n\r\nforged\r\n",
        b"\x00\xff\xfe forged\r\n\r\n",
        b"POST /candidates HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\nforged",
        b"GET /candidates?status=\xff\r\nforged HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    for request in requests:
        await asyncio.to_thread(_send, (address.hostname, address.port), request)
    assert (await client.get("/health/live")).status_code == 200

    lines = chatty.lines()

    assert lines
    assert "forged" not in chatty.log.read_text()


def _send(address, request):
    with socket.create_connection(address, timeout=2) as connection, suppress(OSError):
        connection.sendall(request)
        connection.recv(1000)


@pytest.mark.asvs("API4")
async def test_thousands_of_random_paths_and_methods_add_a_bounded_number_of_series(serving, environment, tmp_path):
    more = {"LOG_LEVEL": "ERROR", "METRICS_TOKEN": SCRAPE_TOKEN, "RATE_LIMIT_DEFAULT": ""}
    async with (
        serving({**environment, **more}, tmp_path) as process,
        httpx.AsyncClient(base_url=process.url) as client,
    ):
        before = len((await metrics_of(client)).splitlines())

        await asyncio.to_thread(_ask_at_random, urlsplit(process.url), 2_000)

        assert len((await metrics_of(client)).splitlines()) - before <= MORE_SERIES


def _ask_at_random(address, count):
    chance = random.Random(1)  # noqa: S311 - not a secret
    connection = HTTPConnection(address.hostname, address.port)
    for _ in range(count):
        word = "".join(chance.choices(string.ascii_letters + string.digits + "%2F./-_~{}", k=12))
        prefix = chance.choice(["/", "/candidates/", "/health/", "/docs/", "/candidates/x/", "/auth/"])
        connection.request(chance.choice(METHODS), prefix + word)
        connection.getresponse().read()
    connection.close()
