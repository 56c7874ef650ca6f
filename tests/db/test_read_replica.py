"""Lists and reads come from a real standby, and always include earlier decisions."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from provider_registration import preflight
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.db.reading import Reader
from provider_registration.local.postgres import PrivatePostgres
from provider_registration.settings import DatabaseSettings
from tests.conftest import place_for_folders
from tests.pgbouncer import CONFIGURATION, PgBouncer
from tests.service import PASSWORD, a_registration, make_settings
from tests.standby import SERVING_SESSIONS, at, lagging, round_robin, standby_of

ADMIN = "admin@example.com"
NO_SYNC = {"fsync": "off", "full_page_writes": "off"}
SEEN_SECONDS = 10  # until the standby must have what was written


def a_folder_that_others_may_enter():
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-replica-", dir=place_for_folders()))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
async def urls():
    """A migrated primary and its standby."""
    folder = a_folder_that_others_may_enter()
    primary = PrivatePostgres(folder / "primary", options=NO_SYNC)
    try:
        primary_url = await asyncio.to_thread(primary.start)
        await asyncio.to_thread(migrations.upgrade, primary_url)
        with standby_of(primary_url, folder / "standby", NO_SYNC) as standby_url:
            yield primary_url, standby_url
    finally:
        primary.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def second_standby_url(urls):
    folder = a_folder_that_others_may_enter()
    with standby_of(urls[0], folder / "standby", NO_SYNC) as url:
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def pooled(url, pooler):
    """The database's URL, directly or behind a PgBouncer that gives each transaction another connection."""
    if not pooler:
        yield url
        return
    folder = a_folder_that_others_may_enter()
    pgbouncer = await asyncio.to_thread(
        PgBouncer, folder / "pgbouncer", url, f"{CONFIGURATION}server_round_robin = 1\n"
    )
    try:
        yield at(url, pgbouncer.port)
    finally:
        await asyncio.to_thread(pgbouncer.stop)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def standby(urls):
    connection = await asyncpg.connect(urls[1])
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def clients(urls, shared_billing_url, run_service):
    """An admin's client of each of two replicas of the service."""
    primary_url, standby_url = urls
    database = Database(DatabaseSettings(_env_file=None, database_url=primary_url).database_url, pool_size=1)
    hasher = PasswordHasher()
    await UserDirectory(database, hasher).create(ADMIN, PASSWORD, Role.ADMIN)
    hasher.close()
    await database.close()
    settings = make_settings(
        primary_url,
        shared_billing_url,
        database_url=primary_url,
        database_read_url=standby_url,
        database_prepared_statements=True,
    )
    async with (
        run_service(settings) as first,
        run_service(settings) as second,
        httpx.AsyncClient(base_url=first.url) as here,
        httpx.AsyncClient(base_url=second.url) as there,
    ):
        for client in (here, there):
            answer = await client.post("/auth/login", json={"username": ADMIN, "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield here, there


async def register(client, standby):
    """Register a company, and wait until the standby has it."""
    candidate = (await client.post("/candidates", json=a_registration())).json()
    async with asyncio.timeout(SEEN_SECONDS):
        while not await standby.fetchval("SELECT true FROM candidates WHERE id = $1", candidate["candidate_id"]):
            await asyncio.sleep(0.01)
    return candidate, f"/candidates/{candidate['candidate_id']}"


async def calls_of(connection):
    """How often the standby used an index of the list."""
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return await connection.fetchval("SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE relname = 'candidates'")


async def test_lists_are_read_from_the_replica(clients, standby):
    here, _ = clients
    await register(here, standby)
    await here.get("/candidates")
    before = await calls_of(standby)

    for _ in range(5):
        assert (await here.get("/candidates")).status_code == 200

    async with asyncio.timeout(SEEN_SECONDS):
        while await calls_of(standby) < before + 5:  # a server updates its statistics with a delay
            await here.get("/candidates")
            await asyncio.sleep(0.3)


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_decision_is_seen_at_once_however_late_the_replica_is(clients, standby, decision):
    here, there = clients
    candidate, path = await register(here, standby)
    status = {"approve": "approved", "reject": "rejected"}[decision]

    async with lagging(standby):
        assert (await here.post(f"{path}/{decision}")).status_code == 200

        listed = (await here.get("/candidates", params={"status": status})).json()["candidates"]
        assert candidate["candidate_id"] in [one["candidate_id"] for one in listed]
        for client in (here, there):  # by its ID, through any replica of the service
            assert (await client.get(path)).json()["status"] == status


@pytest.mark.parametrize("pooler", [None, "PgBouncer"])
async def test_no_list_shows_a_decided_candidate_as_pending_when_one_of_two_replicas_is_late(
    urls, second_standby_url, standby, shared_billing_url, run_service, clients, pooler
):
    primary, first = urls
    async with round_robin(first, second_standby_url) as port, pooled(at(first, port), pooler) as balanced:
        settings = make_settings(
            primary,
            shared_billing_url,
            database_url=primary,
            database_read_url=balanced,
            database_prepared_statements=not pooler,
            database_pool_size=4,
        )
        async with run_service(settings) as service, httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            client.headers["Authorization"] = clients[0].headers["Authorization"]
            decided, stale = set(), 0
            candidates = [await register(client, standby) for _ in range(8)]
            async with lagging(standby):
                for candidate, path in candidates:
                    assert (await client.post(f"{path}/reject")).status_code == 200
                    decided.add(candidate["candidate_id"])
                    lists = await asyncio.gather(
                        *(client.get("/candidates", params={"status": "pending", "limit": n + 90}) for n in range(10))
                    )
                    assert {answer.status_code for answer in lists} == {200}
                    stale += sum(
                        any(each["candidate_id"] in decided for each in answer.json()["candidates"]) for answer in lists
                    )
                asked = len(await standby.fetch(SERVING_SESSIONS))

    assert stale == 0
    assert asked  # the late one was among those that were read


async def test_a_registration_is_found_by_its_id_however_late_the_replica_is(clients, standby):
    here, there = clients
    async with lagging(standby):
        answer = await here.post("/candidates", json=a_registration())

        assert (await there.get(answer.headers["Location"])).status_code == 200


async def test_once_the_replica_has_caught_up_it_is_read_again(clients, standby):
    here, _ = clients
    _, path = await register(here, standby)
    await here.post(f"{path}/reject")
    async with asyncio.timeout(SEEN_SECONDS):
        while await standby.fetchval("SELECT status FROM candidates WHERE id = $1", path[-36:]) != "rejected":
            await asyncio.sleep(0.01)
    await here.get("/candidates")
    before = await calls_of(standby)

    async with asyncio.timeout(SEEN_SECONDS):
        while await calls_of(standby) <= before:
            await here.get("/candidates")
            await asyncio.sleep(0.3)


async def test_without_its_replica_the_service_reads_from_the_database(
    urls, shared_billing_url, run_service, clients, caplog
):
    settings = make_settings(
        urls[0],
        shared_billing_url,
        database_url=urls[0],
        database_read_url="postgresql://nobody@127.0.0.1:1/none",
        database_prepared_statements=True,
    )
    async with run_service(settings) as service, httpx.AsyncClient(base_url=service.url) as client:
        client.headers["Authorization"] = clients[0].headers["Authorization"]

        assert (await client.get("/candidates")).status_code == 200
        answer = await client.post("/candidates", json=a_registration())
        assert (await client.get(answer.headers["Location"])).status_code == 200
    messages = {record.message for record in caplog.records}
    assert {"the replica is unavailable", "the primary is used instead of the replica"} <= messages  # documented


async def test_check_tells_a_standby_from_a_primary(urls, monkeypatch, tmp_path):
    primary, standby = urls
    monkeypatch.chdir(tmp_path)
    needed = {"JWT_SECRET_KEY": uuid4().hex, "BILLING_SERVICE_URL": "http://127.0.0.1:1"}
    for name, value in {**needed, "DATABASE_URL": primary, "DATABASE_READ_URL": standby}.items():
        monkeypatch.setenv(name, value)
    as_it_should_be = await preflight.check()
    monkeypatch.setenv("DATABASE_URL", standby)
    exchanged = await preflight.check()

    assert [each.level for each in as_it_should_be if each.subject == "replica"] == ["ok"]
    assert "error" not in {each.level for each in as_it_should_be}
    assert [each.subject for each in exchanged if each.level == "error"] == ["database"]


@pytest.fixture
async def reader(urls):
    """Read as the service does."""
    databases = [
        Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1, time_limit=2)
        for url in (*urls, "postgresql://nobody@127.0.0.1:1/none")
    ]
    yield {"standby": Reader(*databases[:2]), "none": Reader(databases[0], None), "away": Reader(*databases[::2])}
    for database in databases:
        await database.close()


async def test_a_replica_that_has_all_of_the_log_is_read(reader):
    were_read = []
    for _ in range(5):
        reader["standby"].note_decision()
        async with asyncio.timeout(SEEN_SECONDS):
            while await reader["standby"].measure_lag() != 0:
                await asyncio.sleep(0.01)
        were_read.append(await reader["standby"].read(is_replica))

    assert any(were_read)  # a worker of the services may write before a read


async def is_replica(session):
    return await session.scalar(text("SELECT pg_is_in_recovery()"))


async def test_how_far_the_replica_is_behind_is_measured(reader, clients, standby):
    here, _ = clients
    await register(here, standby)
    async with asyncio.timeout(SEEN_SECONDS):
        while await reader["standby"].measure_lag() != 0:
            await asyncio.sleep(0.05)

    async with lagging(standby):
        begun = time.monotonic()
        await here.post("/candidates", json=a_registration())
        await asyncio.sleep(1.5)
        assert await reader["standby"].measure_lag() >= 1.5
        assert await reader["standby"].measure_lag() <= time.monotonic() - begun + SEEN_SECONDS

    async with asyncio.timeout(SEEN_SECONDS):
        while await reader["standby"].measure_lag() != 0:
            await asyncio.sleep(0.05)


async def test_an_unresponsive_replica_has_infinite_lag(reader):
    assert await reader["away"].measure_lag() == math.inf
    assert await reader["none"].measure_lag() == 0


async def test_a_hanging_replica_fails_no_request(urls, standby, shared_billing_url, run_service, clients):
    settings = make_settings(
        urls[0],
        shared_billing_url,
        database_url=urls[0],
        database_read_url=urls[1],
        database_prepared_statements=True,
        database_timeout_seconds=4,
        database_pool_size=1,  # whose connection to the replica is the one that hangs
    )
    before = {row["pid"] for row in await standby.fetch(SERVING_SESSIONS)}
    async with run_service(settings) as service, httpx.AsyncClient(base_url=service.url) as client:
        client.headers["Authorization"] = clients[0].headers["Authorization"]
        assert (await client.get("/candidates")).status_code == 200
        [session] = {row["pid"] for row in await standby.fetch(SERVING_SESSIONS)} - before
        os.kill(session, signal.SIGSTOP)
        try:
            assert (await client.get("/candidates")).status_code == 200
        finally:
            os.kill(session, signal.SIGCONT)
