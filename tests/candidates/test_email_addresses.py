"""All spellings of an e-mail address are one, in a database with Unicode case folding and in an ASCII one."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import asyncpg
import httpx
import pytest
from click.testing import CliRunner

from provider_registration import email_addresses
from provider_registration.cli import main
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.db.filling import BEFORE_ALL
from tests.conftest import create_database, drop_database
from tests.service import PASSWORD, a_registration, make_settings, user_directory

# As the release before migration 016 writes them.
INSERT_CANDIDATE = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ('Obsthof', $1, '{apples}', 1, 1)
    ON CONFLICT DO NOTHING
    RETURNING contact_email_canonical
"""
INSERT_USER = """
    INSERT INTO users (email, password_hash, role) VALUES ($1, $2, 'viewer') RETURNING email_canonical
"""


def spellings():
    """Spellings of one unused e-mail address; the first is the canonical one."""
    unique = uuid4().hex[:12]
    return [
        f"josé-{unique}@bücher.example",
        f"JOSÉ-{unique}@bücher.example",
        f"josé-{unique}@BÜCHER.EXAMPLE",
        f"josé-{unique}@xn--bcher-kva.example",
        f"jose\u0301-{unique}@bu\u0308cher.example",
        f"JOSE\u0301-{unique}@XN--BCHER-KVA.example",
    ]


@pytest.fixture(scope="module", params=["C", "C.UTF-8"])
async def url(server_url, request):
    """A database at head with this LC_CTYPE."""
    name = f"test_{uuid4().hex}"
    options = f"ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE '{request.param}'"
    url = await create_database(server_url, name, "template0", options)
    await asyncio.to_thread(migrations.upgrade, url)
    yield url
    await drop_database(server_url, name)


@pytest.fixture(scope="module")
def settings_here(url, shared_billing_url):
    return make_settings(url, shared_billing_url)


@pytest.fixture(scope="module")
async def client(settings_here, run_service, connect):
    async with run_service(settings_here) as service, connect(service.url) as client:
        yield client


@pytest.fixture
async def connection(url):
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
def call(url):
    async def call(*arguments, stdin=None):
        result = await asyncio.to_thread(
            CliRunner().invoke, main, arguments, input=stdin, env={"DATABASE_URL": url}, catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


async def log_in(client, name, password=PASSWORD):
    return (await client.post("/auth/login", json={"username": name, "password": password})).status_code


@pytest.mark.asvs("V2.3.2")
async def test_a_company_registers_once_in_whatever_spelling(client):
    first, *others = spellings()
    assert (await client.post("/candidates", json=a_registration(contact_email=first))).status_code == 201

    for other in others:
        assert (await client.post("/candidates", json=a_registration(contact_email=other))).status_code == 409, other


async def test_of_a_crowd_of_spellings_one_is_registered(client):
    answers = await asyncio.gather(
        *(client.post("/candidates", json=a_registration(contact_email=one)) for one in spellings() * 5)
    )

    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 29]


async def test_addresses_that_only_look_alike_are_two(client):
    unique = uuid4().hex
    for address in (f"jose{unique}@x.example", f"josé{unique}@x.example", f"jos\u0435{unique}@x.example"):
        assert (await client.post("/candidates", json=a_registration(contact_email=address))).status_code == 201


@pytest.mark.parametrize("created", range(6))
async def test_a_user_logs_in_by_any_spelling_of_the_address_they_were_created_with(client, call, created):
    ways = spellings()
    await call("create-user", ways[created], "--password-stdin", stdin=f"{PASSWORD}\n")

    assert [await log_in(client, way) for way in ways] == [200] * 6
    assert await log_in(client, ways[0], "another password") == 401
    await call("disable-user", ways[created - 1])
    assert await log_in(client, ways[created]) == 401


async def test_data_is_exported_and_erased_by_any_spelling(client, call):
    ways = spellings()
    await client.post("/candidates", json=a_registration(contact_email=ways[0]))
    await call("create-user", ways[1], "--password-stdin", stdin=f"{PASSWORD}\n")

    held = json.loads(await call("export-data", ways[5]))
    assert held["candidate"]["contact_email"] == ways[0]
    assert held["user"]["id"]
    said = await call("erase-data", ways[3], "--yes")

    assert said.count("personal data erased") == 2
    assert (await client.post("/candidates", json=a_registration(contact_email=ways[2]))).status_code == 201


async def test_a_dotted_capital_i_is_an_i_in_every_database(client):
    address = f"isik-{uuid4().hex}@x.example"
    ways = (address, f"\u0130{address[1:]}", f"i\u0307{address[1:]}")
    answered = [(await client.post("/candidates", json=a_registration(contact_email=way))).status_code for way in ways]

    assert answered == [201, 409, 409]


async def test_nothing_of_an_erased_address_is_left(client, call, connection):
    [name, *_] = spellings()
    unique = name[5:17]
    await client.post("/candidates", json=a_registration(contact_email=name))
    await call("create-user", name, "--password-stdin", stdin=f"{PASSWORD}\n")

    await call("erase-data", name, "--yes")

    for table in ("users", "candidates"):
        left = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE {table}::text LIKE $1", f"%{unique}%")
        assert left == 0


@pytest.mark.asvs("V6.3.1")
async def test_spellings_of_one_account_share_its_limit_and_others_do_not(settings_here, run_service, connect, call):
    ways = spellings()
    await call("create-user", ways[0], "--password-stdin", stdin=f"{PASSWORD}\n")
    limited = settings_here.model_copy(update={"rate_limit_login": "5 per minute"})
    async with run_service(limited) as service, connect(service.url) as client:
        wrong = [await log_in(client, way, "wrong password") for way in ways]
        dotted = await log_in(client, ways[0].replace("j", "\u0130", 1), "wrong password")
        right = await log_in(client, ways[3])

    assert wrong == [401] * 5 + [429]
    assert dotted == 401  # an account that does not exist
    assert right == 429


async def test_what_an_older_release_writes_is_kept_apart_and_found(client, connection, call, url):
    plain, first, second = f"Sales-{uuid4().hex}@Obsthof.example", spellings(), spellings()
    assert await connection.fetchval(INSERT_CANDIDATE, plain) == plain.lower()
    assert await connection.fetchval(INSERT_CANDIDATE, first[1]) is None
    again = a_registration(contact_email=plain.upper())
    assert (await client.post("/candidates", json=again)).status_code == 409
    assert await connection.fetchval(INSERT_CANDIDATE, plain.upper()) is None  # refused

    held = json.loads(await call("export-data", first[3]))  # it fills what is empty
    assert held["candidate"]["contact_email"] == first[1]
    for way in first:
        assert (await client.post("/candidates", json=a_registration(contact_email=way))).status_code == 409

    async with user_directory(url) as users:
        password_hash = await users._hasher.hash(PASSWORD)
    assert await connection.fetchval(INSERT_USER, second[0], password_hash) is None
    assert await log_in(client, second[0]) == 200  # as that release would
    await call("set-role", second[4], "--role", "admin")
    assert [await log_in(client, way) for way in second] == [200] * 6


async def test_an_older_release_changes_and_erases_addresses(connection):
    old, new = f"Old-{uuid4().hex}@x.example", f"New-{uuid4().hex}@x.example"
    row = await connection.fetchrow(INSERT_CANDIDATE, old)
    change = """
        UPDATE candidates SET contact_email = $2 WHERE contact_email = $1
        RETURNING contact_email_canonical, version
    """
    assert row["contact_email_canonical"] == old.lower()

    assert tuple(await connection.fetchrow(change, old, new)) == (new.lower(), 2)
    assert tuple(await connection.fetchrow(change, new, f"é{new}")) == (None, 3)


async def test_the_worker_fills_what_is_empty_without_a_new_version(settings_here, connection):
    [kept, *_], [first, *others] = spellings(), spellings()
    for address in (kept, first):
        await connection.execute(INSERT_CANDIDATE, address)
    database = Database(settings_here.database_url, pool_size=1)
    worker = asyncio.create_task(email_addresses.keep_canonical(database))
    look = "SELECT contact_email_canonical, version FROM candidates WHERE contact_email = $1"
    async with asyncio.timeout(20):
        while (row := await connection.fetchrow(look, first))["contact_email_canonical"] is None:
            await asyncio.sleep(0.05)
    worker.cancel()
    await database.close()

    assert tuple(row) == (others[2].encode().decode().lower(), 1)


async def test_two_that_share_an_address_are_named_by_their_ids_and_stop_nobody_else(
    settings_here, connection, monkeypatch
):
    first, other = spellings(), spellings()
    for address in (first[0], first[3], other[0]):
        await connection.execute(INSERT_CANDIDATE, address)
    database = Database(settings_here.database_url, pool_size=1)

    monkeypatch.setattr(email_addresses, "TIMED_BATCH", 1)
    taken, after = [], None
    while after != BEFORE_ALL:
        async with database.transaction() as session:
            found, after = await email_addresses.fill_candidates(session, after or BEFORE_ALL)
        taken += found
    await database.close()

    empty = "SELECT id FROM candidates WHERE contact_email = ANY($1) AND contact_email_canonical IS NULL"
    [row] = await connection.fetch(empty, [first[0], first[3], other[0]])
    assert row["id"] in taken
    await connection.execute("DELETE FROM candidate_events WHERE candidate_id = $1", row["id"])
    await connection.execute("DELETE FROM candidates WHERE id = $1", row["id"])


@pytest.mark.parametrize("local_part", ["a" * 65, "ü" * 33])
async def test_a_local_part_of_more_than_64_octets_is_refused(client: httpx.AsyncClient, local_part):
    answer = await client.post("/candidates", json=a_registration(contact_email=f"{local_part}@x.example"))

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["contact_email"]
