"""`pg_dump --data-only`, restored by psql into a migrated database."""

from __future__ import annotations

import asyncio

import asyncpg

from provider_registration.db import migrations
from provider_registration.local.accounts import installed_programs
from provider_registration.local.postgres import ENVIRONMENT

INSERT = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    SELECT 'Acme ' || n, n || '@example.org', CASE WHEN n % 3 = 0 THEN '{apples,grapes}' ELSE '{mangoes}' END::text[],
           1, n
    FROM generate_series(1, 200) AS n
"""
COUNTS = """
    SELECT product, status, sum(count)::bigint, sum(tons_per_day)::bigint
    FROM candidate_counts GROUP BY 1, 2 HAVING sum(count) <> 0 ORDER BY 1, 2
"""


EVENTS = "SELECT * FROM candidate_events ORDER BY id"


async def switch_triggers(connection: asyncpg.Connection, to: str) -> None:
    for table in ("candidates", "approval_events", "candidate_events"):
        await connection.execute(f"ALTER TABLE {table} {to} TRIGGER USER")


async def program(name: str, *arguments: str, given: bytes = b"") -> bytes:
    """The output of one of PostgreSQL's programs, which must not print warnings."""
    process = await asyncio.create_subprocess_exec(
        installed_programs() / name,
        *arguments,
        env=ENVIRONMENT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(given)
    assert (process.returncode, errors.decode()) == (0, "")
    return output


async def test_data_alone_can_be_restored_and_is_counted_rightly(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url)
    await connection.execute(INSERT)
    await connection.execute("UPDATE candidates SET status = 'rejected' WHERE capacity_tons_per_day % 5 = 0")
    candidates = await connection.fetch("SELECT * FROM candidates ORDER BY id")
    counts = await connection.fetch(COUNTS)
    events = await connection.fetch(EVENTS)
    data = await program("pg_dump", "--data-only", "--exclude-table=alembic_version", empty_database_url)
    await asyncio.to_thread(migrations.downgrade, empty_database_url, "base")
    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    await switch_triggers(connection, "DISABLE")
    await connection.execute("DELETE FROM event_dispatcher")
    await connection.execute("DELETE FROM statistics_progress")
    await program(
        "psql", "--quiet", "--no-psqlrc", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", empty_database_url, given=data
    )

    await switch_triggers(connection, "ENABLE")

    assert await connection.fetch("SELECT * FROM candidates ORDER BY id") == candidates
    assert await connection.fetch(EVENTS) == events
    assert await connection.fetch(COUNTS) == counts
    assert await connection.fetch("SELECT * FROM recount_candidates()") == []
