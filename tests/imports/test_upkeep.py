"""Files and their rows are deleted 30 days after they were last used, some rows at a time."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from provider_registration.imports import service as imports
from provider_registration.imports import upkeep
from provider_registration.imports.service import KEPT_DAYS
from tests.service import make_settings

ROWS, AT_ONCE = 25, 10
ADD = """
    WITH added AS (
        INSERT INTO imports (id, actor_kind, actor_id, is_read, touched_at, row_count, run, is_dry_run, job_id)
        SELECT gen_random_uuid(), 'user', gen_random_uuid(), $1, clock_timestamp() - $2 * interval '1 hour', $3,
               CASE WHEN $4 THEN 1 ELSE 0 END, CASE WHEN $4 THEN false END, CASE WHEN $4 THEN gen_random_uuid() END
        RETURNING id, job_id
    ), job AS (
        INSERT INTO jobs (id, kind, state, actor_kind, actor_id, parameters, total, due_at)
        SELECT job_id, 'imports.register', 'running', 'user', id, '{}', 1, now() + interval '10 s'
        FROM added WHERE job_id IS NOT NULL
    ), filled AS (
        INSERT INTO import_rows (import_id, position, row_number, cells, addresses)
        SELECT id, number, number + 1, '["Huerta"]', '' FROM added, generate_series(1, $3) AS number
    )
    SELECT id FROM added
"""
# Count the rows that each statement deletes.
COUNT_DELETED = """
    CREATE TABLE deleted_rows (number bigint);
    CREATE FUNCTION count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO deleted_rows SELECT count(*) FROM gone;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER count_deleted AFTER DELETE ON import_rows REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION count_deleted();
"""


@pytest.fixture
async def own_database(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


async def test_what_nobody_has_used_for_30_days_is_deleted_in_bounded_batches(
    own_database_url, own_database, shared_billing_url, run_service, monkeypatch
):
    monkeypatch.setattr(upkeep, "SECONDS", 0.05)
    monkeypatch.setattr(imports, "DELETED_AT_ONCE", AT_ONCE)

    async def add(*, hours, is_read=True, runs=False):
        return await own_database.fetchval(ADD, is_read, hours, ROWS, runs)

    days = 24
    expired = [await add(hours=KEPT_DAYS * days + 1), await add(hours=400 * days), await add(hours=2, is_read=False)]
    kept = {
        "used": await add(hours=KEPT_DAYS * days - 1),
        "being read": await add(hours=0.9, is_read=False),
        "running": await add(hours=400 * days, runs=True),
    }
    await own_database.execute(COUNT_DELETED)

    async with run_service(make_settings(own_database_url, shared_billing_url)), asyncio.timeout(30):
        while await own_database.fetchval("SELECT count(*) FROM imports WHERE id = ANY($1)", expired):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)  # in which more would be deleted

    left = {row["id"] for row in await own_database.fetch("SELECT id FROM imports")}
    assert {name for name, import_id in kept.items() if import_id in left} == set(kept)
    assert {row["import_id"] for row in await own_database.fetch("SELECT import_id FROM import_rows")} == left
    deleted = [row["number"] for row in await own_database.fetch("SELECT number FROM deleted_rows")]
    assert sum(deleted) == len(expired) * ROWS
    assert max(deleted) == AT_ONCE
