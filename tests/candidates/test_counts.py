"""The counts behind every list's total: always exact, and corrected if rows changed without them."""

from __future__ import annotations

import asyncio
import random
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.candidates.counts import recount
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings

PRODUCTS = ["apples", "oranges", "grapes", "bananas", "mangoes"]

INSERT = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    SELECT 'company', gen_random_uuid() || '@example.com', $2, 1, 1 FROM generate_series(1, $1)
    RETURNING id
"""
REJECT = "UPDATE candidates SET status = 'rejected' WHERE id = $1 AND status = 'pending'"
KEPT = """
    SELECT product, status, sum(count), sum(tons_per_day)
    FROM candidate_counts
    GROUP BY 1, 2
    HAVING sum(count) <> 0 OR sum(tons_per_day) <> 0
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
ACTUAL = """
    SELECT product, status, count(*), sum(capacity_tons_per_day)
    FROM candidates, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
    GROUP BY 1, 2
"""


@pytest.fixture
def url(own_database_url):
    return own_database_url


@pytest.fixture
async def connection(url):
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def counted(connection, statement):
    return {(row[0], row[1]): row[2] for row in await connection.fetch(statement)}


async def check_exact(connection):
    async with connection.transaction(isolation="repeatable_read"):
        kept, actual = await connection.fetch(KEPT), await connection.fetch(ACTUAL)
    assert {tuple(row) for row in kept} == {tuple(row) for row in actual}
    assert await connection.fetchval("SELECT count(*) FROM candidate_counts WHERE count < 0 AND shard < 0") == 0


async def test_every_kind_of_change_is_counted(connection):
    ids = [row["id"] for row in await connection.fetch(INSERT, 10, ["apples", "grapes", "apples"])]
    await connection.fetch(INSERT, 5, ["mangoes"])
    await check_exact(connection)
    assert await counted(connection, KEPT) == {
        ("", "pending"): 15,
        ("apples", "pending"): 10,
        ("grapes", "pending"): 10,
        ("mangoes", "pending"): 5,
    }

    await connection.execute(REJECT, ids[0])
    await connection.execute("UPDATE candidates SET products = '{oranges}' WHERE id = $1", ids[1])
    await connection.execute("UPDATE candidates SET location = 'elsewhere'")
    await connection.execute("UPDATE candidates SET capacity_tons_per_day = 2000000000 WHERE id = ANY($1)", ids[4:8])
    await connection.execute("DELETE FROM candidate_events WHERE candidate_id = ANY($1)", ids[2:5])
    await connection.execute("DELETE FROM candidates WHERE id = ANY($1)", ids[2:5])
    await check_exact(connection)

    await connection.execute("TRUNCATE candidates CASCADE")
    assert await counted(connection, KEPT) == {}


async def test_what_is_rolled_back_or_refused_is_not_counted(connection):
    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            await connection.fetch(INSERT, 10, ["apples"])
            raise ZeroDivisionError
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.fetch(INSERT, 10, ["pears"])
    await connection.fetch(INSERT.replace("RETURNING id", "ON CONFLICT DO NOTHING RETURNING id"), 1, ["apples"])

    await check_exact(connection)
    assert await counted(connection, KEPT) == {("", "pending"): 1, ("apples", "pending"): 1}


async def test_copied_rows_are_counted(connection):
    rows = [("company", f"{uuid4().hex}@example.com", [PRODUCTS[n % 5]], 1, 1) for n in range(1000)]
    columns = ["company_name", "contact_email", "products", "truck_count", "capacity_tons_per_day"]

    await connection.copy_records_to_table("candidates", records=rows, columns=columns)

    await check_exact(connection)
    assert (await counted(connection, KEPT))["", "pending"] == 1000


async def test_many_who_write_at_once_are_counted_and_wait_for_none(url, connection):
    async def write(number):
        chance = random.Random(number)  # noqa: S311 - not a secret
        mine = await asyncpg.connect(url)
        for _ in range(30):
            transaction = mine.transaction()
            await transaction.start()
            products = chance.sample(PRODUCTS, chance.randint(1, 5))
            ids = [row["id"] for row in await mine.fetch(INSERT, chance.randint(1, 5), products)]
            if chance.random() < 0.3:
                await transaction.rollback()
                continue
            await transaction.commit()
            await mine.execute(REJECT, chance.choice(ids))
            if chance.random() < 0.2:
                gone = chance.choice(ids)
                await mine.execute("DELETE FROM candidate_events WHERE candidate_id = $1", gone)
                await mine.execute("DELETE FROM candidates WHERE id = $1", gone)
        await mine.close()

    await asyncio.gather(*(write(number) for number in range(12)))

    await check_exact(connection)


async def test_a_recount_corrects_rows_written_without_the_trigger(url, connection):
    await connection.fetch(INSERT, 100, ["apples"])
    await connection.execute("ALTER TABLE candidates DISABLE TRIGGER USER")  # as a data-only restore may
    await connection.fetch(INSERT, 50, ["grapes"])
    await connection.execute("ALTER TABLE candidates ENABLE TRIGGER USER")
    await connection.execute("UPDATE candidate_counts SET count = count + 7 WHERE product = 'apples'")

    async def write():
        mine = await asyncpg.connect(url)
        for _ in range(40):
            await mine.fetch(INSERT, 1, ["mangoes"])
        await mine.close()

    writing = [asyncio.create_task(write()) for _ in range(3)]
    mended = [tuple(row) for row in await connection.fetch("SELECT * FROM recount_candidates()")]
    await asyncio.gather(*writing)

    assert mended == [("", "pending", 50, 50), ("apples", "pending", -7, 0), ("grapes", "pending", 50, 50)]
    await check_exact(connection)
    assert await connection.fetch("SELECT * FROM recount_candidates()") == []


async def test_recounts_at_the_same_time_add_what_is_missing_once(url, connection):
    await connection.fetch(INSERT, 10, ["apples"])
    await connection.execute("UPDATE candidate_counts SET count = 0")
    databases = [Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1) for _ in "abc"]
    async with connection.transaction():
        await connection.execute("LOCK TABLE candidate_counts IN SHARE MODE")  # all read before any of them writes
        recounting = [asyncio.create_task(recount(database)) for database in databases]
        async with asyncio.timeout(20):
            while await connection.fetchval(WAITING) < len(databases):
                await asyncio.sleep(0.02)

    found = await asyncio.gather(*recounting)

    assert sorted(len(one) for one in found) == [0, 0, 2]
    await check_exact(connection)
    for database in databases:
        await database.close()


async def test_rows_that_were_there_before_are_counted_by_the_migration(empty_database_url):
    await asyncio.to_thread(migrations.upgrade, empty_database_url, "008_sessions")
    connection = await asyncpg.connect(empty_database_url)
    await connection.fetch(INSERT, 500, ["apples", "oranges"])

    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    await check_exact(connection)
    assert (await counted(connection, KEPT))["", "pending"] == 500
    await connection.close()
