"""Approvals that API keys requested, and a downgrade to a release that knows no keys."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.db import migrations
from provider_registration.db.revisions import REVISIONS

KEYS = "029_api_keys"
BEFORE = REVISIONS[REVISIONS.index(KEYS) - 1]
ADD = """
    WITH added AS (
        INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
        VALUES ('Obsthof', 'obsthof@example.org', '{apples}', 1, 1) RETURNING id
    )
    INSERT INTO approval_intents
        (candidate_id, idempotency_key, provider_name, requested_by, requested_by_kind, next_attempt_at)
    SELECT id, $1, 'Obsthof', $1, 'api_key', now() FROM added RETURNING candidate_id
"""
AS_BEFORE = """
    INSERT INTO approval_intents (candidate_id, idempotency_key, provider_name, requested_by, next_attempt_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'Huerta', gen_random_uuid(), now()
"""


@pytest.fixture
async def connection(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


async def test_an_unfinished_approval_of_a_key_survives_a_downgrade(own_database_url, connection):
    key = uuid4()
    candidate_id = await connection.fetchval(ADD, key)

    await asyncio.to_thread(migrations.downgrade, own_database_url, BEFORE)

    assert await connection.fetchval("SELECT requested_by FROM approval_intents") == key
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute(AS_BEFORE)
    await connection.execute("UPDATE approval_intents SET attempts = 2 WHERE candidate_id = $1", candidate_id)
    await connection.execute("DELETE FROM approval_intents")

    await asyncio.to_thread(migrations.upgrade, own_database_url)


async def test_an_older_release_writes_approvals_of_users(own_database_url, connection):
    user_id = await connection.fetchval(
        "INSERT INTO users (email, password_hash, role) VALUES ('a@example.org', '!', 'admin') RETURNING id"
    )
    candidate_id = await connection.fetchval(ADD, uuid4())
    await connection.execute("DELETE FROM approval_intents")

    await connection.execute(
        "INSERT INTO approval_intents (candidate_id, idempotency_key, provider_name, requested_by, next_attempt_at) "
        "VALUES ($1, $2, 'Obsthof', $3, now())",
        *(candidate_id, uuid4(), user_id),
    )

    assert await connection.fetchval("SELECT requested_by_kind FROM approval_intents") == "user"
