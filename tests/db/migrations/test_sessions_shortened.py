"""018_functions_and_sessions: a session longer than the service's longest is shortened."""

from __future__ import annotations

import asyncio

import asyncpg

from provider_registration.db import migrations

INSERT = """
    WITH added AS (
        INSERT INTO users (email, password_hash, role) VALUES ('a@example.com', '', 'admin') RETURNING id
    )
    INSERT INTO sessions (user_id, created_at, expires_at)
    SELECT id, TIMESTAMPTZ '2026-03-01 00:00Z', TIMESTAMPTZ '2026-03-01 00:00Z' + length
    FROM added, unnest(ARRAY[interval '1 hour', interval '168 hours', interval '100 years']) AS length
"""
LENGTHS = "SELECT extract(epoch FROM expires_at - created_at)::float8 / 3600 FROM sessions ORDER BY expires_at"


async def test_longer_sessions_are_shortened_and_no_others(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url, "015_rejected_by")
    await connection.execute(INSERT)

    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    assert [row[0] for row in await connection.fetch(LENGTHS)] == [1, 168, 168]
