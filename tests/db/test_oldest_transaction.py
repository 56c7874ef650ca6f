"""What keeps old row versions without a session of its own is seen too: prepared transactions and replicas."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import asyncpg
import pytest

from provider_registration.approvals.queries import OLDEST_TRANSACTION
from provider_registration.local.postgres import PrivatePostgres
from tests.conftest import place_for_folders
from tests.standby import standby_of

OPTIONS = {"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "2"}
FEEDBACK = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
SLOT, WRITES = "replica", 50
SEEN_WITHIN = 20  # seconds
HAS_FEEDBACK = """
    SELECT EXISTS (SELECT FROM pg_stat_replication WHERE backend_xmin IS NOT NULL)
        OR EXISTS (SELECT FROM pg_replication_slots WHERE xmin IS NOT NULL)
"""


@pytest.fixture(scope="module")
def folder():
    made = Path(tempfile.mkdtemp(prefix="provider-registration-oldest-", dir=place_for_folders()))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def url(folder):
    server = PrivatePostgres(folder / "primary", options=OPTIONS)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
async def connection(url):
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def eventually(condition):
    async with asyncio.timeout(SEEN_WITHIN):
        while not await condition():
            await asyncio.sleep(0.05)


async def write(connection):
    for _ in range(WRITES):
        await connection.execute("SELECT pg_current_xact_id()")


async def oldest(connection):
    return dict(await connection.fetchrow(OLDEST_TRANSACTION.text))


async def test_a_prepared_transaction_is_seen(connection):
    await connection.execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'forgotten'")
    await asyncio.sleep(1)
    await write(connection)
    try:
        found = await oldest(connection)
        assert found["seconds"] >= 1
        assert found["later"] >= WRITES
    finally:
        await connection.execute("ROLLBACK PREPARED 'forgotten'")
    assert (await oldest(connection))["later"] < WRITES


@pytest.mark.parametrize("slot", [None, SLOT])
async def test_an_old_snapshot_of_a_replica_is_seen(connection, url, folder, slot):
    options = OPTIONS | FEEDBACK
    if slot:
        await connection.execute("SELECT pg_create_physical_replication_slot($1)", slot)
        options |= {"primary_slot_name": slot}

    async def has_feedback():
        return await connection.fetchval(HAS_FEEDBACK)

    async def is_seen():
        return (await oldest(connection))["later"] >= WRITES

    try:
        with standby_of(url, folder / f"standby-{slot}", options) as standby_url:
            reader = await asyncpg.connect(standby_url)
            await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
            await eventually(has_feedback)
            await write(connection)
            await eventually(is_seen)
            reader.terminate()
        assert await is_seen() == bool(slot)  # a slot keeps it when the replica has gone
    finally:
        if slot:
            await connection.execute("SELECT pg_drop_replication_slot($1)", slot)
