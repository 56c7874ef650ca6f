"""The cost of a list does not grow with the table: measured in blocks that PostgreSQL reads, which do not vary."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from provider_registration.candidates.list_queries import list_statement, names_of_clauses
from provider_registration.candidates.queries import FIND_RECORDS
from provider_registration.candidates.selection import Order
from provider_registration.db import migrations
from provider_registration.db.filling import BEFORE_ALL
from provider_registration.similar.queries import FIND_EMPTY
from provider_registration.web.pagination import NEWEST_END
from tests.conftest import create_database, drop_database

SMALL, LARGE = 20_000, 100_000
RARE_EVERY = 100  # one candidate in this many has mangoes, in tables of any size
MORE = 1.2  # times as many blocks at most
LEVELS = 30  # more blocks: one more level of each index, for the page and for each of its candidates

FILL = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day, status,
                            provider_id, created_at)
    SELECT 'Company ' || i, 'company' || i || '@example.com',
           CASE WHEN i % $3 = 0 THEN ARRAY['mangoes']
                WHEN i % 2 = 0 THEN ARRAY['apples', 'grapes']
                ELSE ARRAY['oranges'] END,
           1, 1, (ARRAY['pending', 'approved', 'rejected'])[1 + i % 3], CASE WHEN i % 3 = 1 THEN i END,
           $4::timestamptz - make_interval(secs => i)
    FROM generate_series($1::int, $2::int) AS i
"""
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
async def connection(server_url):
    name = f"test_{uuid4().hex}"
    url = await create_database(server_url, name)
    await asyncio.to_thread(migrations.upgrade, url)
    connection = await asyncpg.connect(url, server_settings={"jit": "off", "timezone": "UTC"})
    yield connection
    await connection.close()
    await drop_database(server_url, name)


async def fill(connection, rows):
    """Make it this many candidates."""
    present = await connection.fetchval("SELECT count(*) FROM candidates")
    await connection.execute(FILL, present + 1, rows, RARE_EVERY, BEGUN)
    await connection.execute("VACUUM ANALYZE candidates, candidate_counts")


def as_sent(statement, parameters):
    """A statement as the driver gets it, and the values of its parameters."""
    compiled = statement.compile(dialect=dialect.dialect())
    return str(compiled), [{**compiled.params, **parameters}[name] for name in compiled.positiontup]


async def blocks(connection, statement, **parameters):
    """Number of blocks that a statement of the service reads."""
    compiled, values = as_sent(statement, parameters)
    plan = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}", *values))
    return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]


async def pages(connection, rows):
    """Every kind of page in a table of `rows` rows: its statement, and values for its parameters."""
    first = {"after": NEWEST_END.at, "after_id": NEWEST_END.id, "limit": 20}
    deep = {
        **first,
        "after": await connection.fetchval(
            "SELECT created_at FROM candidates ORDER BY created_at OFFSET $1 LIMIT 1", rows // 2
        ),
    }
    for place, parameters in (("first", first), ("deep", deep)):
        for status in (None, "pending"):
            for product in (None, "apples", "mangoes"):
                asked = {**parameters, "status": status, "product": product}
                filters = names_of_clauses({name: asked[name] for name in ("status", "product") if asked[name]})
                statement = list_statement(("all", "records"), filters, (), Order.NEWEST, "counts", has_position=True)
                yield (place, status, product), statement, asked


async def all_blocks(connection, rows):
    """The number of blocks that each kind of page reads."""
    return {kind: await blocks(connection, made, **asked) async for kind, made, asked in pages(connection, rows)}


async def test_no_page_costs_more_in_a_larger_table(connection):
    await fill(connection, SMALL)
    small = await all_blocks(connection, SMALL)
    await fill(connection, LARGE)

    large = await all_blocks(connection, LARGE)

    assert {page: (small[page], large[page]) for page in small if large[page] > MORE * small[page] + LEVELS} == {}


async def generic_plans(connection, statement, parameters):
    """In how many of ten executions PostgreSQL uses the plan for any values; it tries five plans for given ones."""
    sent, values = as_sent(statement, parameters)
    prepared = await connection.prepare(sent)
    for _ in range(10):
        await prepared.fetch(*values)
    return await connection.fetchval(
        "SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1 ORDER BY prepare_time DESC LIMIT 1", sent
    )


async def test_a_page_is_planned_once_for_all_values(connection):
    """Planning takes longer than reading a page."""
    await fill(connection, SMALL)

    planned = {
        kind: await generic_plans(connection, statement, asked)
        async for kind, statement, asked in pages(connection, SMALL)
    }

    assert set(planned.values()) == {5}, planned


async def test_candidates_are_read_by_index_with_a_plan_made_while_there_were_none(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    compiled, values = as_sent(FIND_RECORDS, {"candidate_ids": [uuid4()]})

    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {compiled}", *values))

    assert "Index Scan using pk_candidates" in plan
    assert "Seq Scan" not in plan
    await connection.close()


async def test_reading_candidates_is_planned_once_for_any_number(connection):
    await fill(connection, SMALL)
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM candidates LIMIT 64")]

    for number in (1, len(ids)):
        await connection.execute("DEALLOCATE ALL")
        await connection.reload_schema_state()
        assert await generic_plans(connection, FIND_RECORDS, {"candidate_ids": ids[:number]}) == 5
        assert await blocks(connection, FIND_RECORDS, candidate_ids=ids[:number]) <= 6 * number + LEVELS


async def test_candidates_whose_keys_are_filled_are_not_read_again(connection):
    """PostgreSQL's statistics are from when no keys were filled, as after a migration."""
    await fill(connection, LARGE)
    await connection.execute("UPDATE candidate_keys SET keys = NULL, word_keys = NULL WHERE word_keys IS NOT NULL")
    await connection.execute("VACUUM ANALYZE candidate_keys")
    first = await blocks(connection, FIND_EMPTY, after=BEFORE_ALL, max_rows=200)
    last = await connection.fetchval("SELECT id FROM candidates ORDER BY id OFFSET $1 LIMIT 1", LARGE // 2)
    await connection.execute("UPDATE candidate_keys SET keys = '{}', word_keys = '{}' WHERE candidate_id <= $1", last)

    assert await blocks(connection, FIND_EMPTY, after=last, max_rows=200) <= 2 * first
    await connection.execute("VACUUM candidate_keys")
    assert await blocks(connection, FIND_EMPTY, after=BEFORE_ALL, max_rows=200) <= 2 * first
