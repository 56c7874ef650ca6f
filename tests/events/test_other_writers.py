"""Events for changes by other writers: the previous release, and manual statements."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration.db import migrations

BEFORE, LOG = "019_language", "020_candidate_events"
REGISTER = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ($1::text, $1::text || '@example.org', '{apples}', 1, 1) RETURNING id
"""
ADD_USER = "INSERT INTO users (email, password_hash, role) VALUES ($1, '!', 'admin') RETURNING id"
REJECT = "UPDATE candidates SET status = 'rejected', rejected_by = $2 WHERE id = $1"
# How the previous release finishes an approval: with one statement.
APPROVE = """
    WITH approved AS (
        UPDATE candidates SET status = 'approved', provider_id = $2 WHERE id = $1 RETURNING id
    )
    INSERT INTO approval_events (candidate_id, idempotency_key, event, provider_id, user_id)
    SELECT id, gen_random_uuid(), $3, $2, $4 FROM approved
"""
RECORD = """
    INSERT INTO approval_events (candidate_id, idempotency_key, event, user_id, detail)
    VALUES ($1, gen_random_uuid(), $2, $3, $4)
"""
EVENTS = """
    SELECT type, actor_kind, actor_id, version, data::text, details ->> 'error' AS error
    FROM candidate_events AS event LEFT JOIN candidate_event_details ON event_id = event.id
    WHERE event.candidate_id = $1 ORDER BY at, event.id
"""
OF_APPROVALS = "SELECT id, event, user_id, provider_id, detail FROM approval_events WHERE candidate_id = $1 ORDER BY id"


@pytest.fixture
async def older_database_url(request, database_at):
    return await database_at(getattr(request, "param", LOG))


@pytest.fixture
async def connection(older_database_url):
    connection = await asyncpg.connect(older_database_url)
    yield connection
    await connection.close()


async def history(connection: asyncpg.Connection, candidate: UUID) -> list[tuple]:
    """Type without prefix, actor, version, whether it was recorded later, and the error."""
    return [
        (
            row["type"].removeprefix("candidate."),
            row["actor_id"] or row["actor_kind"],
            row["version"],
            "backfilled" in json.loads(row["data"]),
            row["error"],
        )
        for row in await connection.fetch(EVENTS, candidate)
    ]


async def rejected(connection):
    user, candidate = await connection.fetchval(ADD_USER, "a@x.org"), await connection.fetchval(REGISTER, "rejected")
    await connection.execute(REJECT, candidate, user)
    return user, candidate


async def approved(connection):
    user, candidate = await connection.fetchval(ADD_USER, "b@x.org"), await connection.fetchval(REGISTER, "approved")
    for event, by, detail in (("requested", user, None), ("failed", None, "no luck"), ("requested", user, None)):
        await connection.execute(RECORD, candidate, event, by, detail)
    await connection.execute(APPROVE, candidate, 7, "approved", None)
    return user, candidate


async def test_what_the_release_before_writes_is_recorded(connection):
    user, candidate = await rejected(connection)
    assert await history(connection, candidate) == [
        ("registered", "applicant", 1, True, None),
        ("rejected", user, 2, True, None),
    ]

    user, candidate = await approved(connection)
    assert await history(connection, candidate) == [
        ("registered", "applicant", 1, True, None),
        ("approval_requested", user, 1, False, None),
        ("approval_failed", "service", 1, False, "no luck"),
        ("approval_requested", user, 1, False, None),
        ("approved", user, 2, False, None),
    ]


async def test_a_provider_linked_by_the_release_before_approves(connection):
    user, candidate = await connection.fetchval(ADD_USER, "c@x.org"), await connection.fetchval(REGISTER, "linked")

    await connection.execute(APPROVE, candidate, 8, "linked", user)

    assert [(type_, actor) for type_, actor, *_ in await history(connection, candidate)] == [
        ("registered", "applicant"),
        ("approval_linked", user),
        ("approved", user),
    ]


async def test_a_decision_by_hand_is_recorded(connection):
    candidate = await connection.fetchval(REGISTER, "by hand")

    await connection.execute("UPDATE candidates SET status = 'approved', provider_id = 9 WHERE id = $1", candidate)
    await connection.execute("UPDATE candidates SET location = 'Valencia' WHERE id = $1", candidate)

    assert await history(connection, candidate) == [
        ("registered", "applicant", 1, True, None),
        ("approved", "service", 2, True, None),
    ]


async def test_a_decision_taken_back_by_hand_and_made_again_is_recorded_again(connection):
    user, candidate = await rejected(connection)

    await connection.execute("UPDATE candidates SET status = 'pending', rejected_by = NULL WHERE id = $1", candidate)
    await connection.execute(REJECT, candidate, user)

    assert [(type_, version) for type_, _, version, *_ in await history(connection, candidate)] == [
        ("registered", 1),
        ("rejected", 2),
        ("rejected", 4),
    ]


async def test_the_release_before_reads_what_this_one_records(connection):
    user, candidate = await connection.fetchval(ADD_USER, "d@x.org"), await connection.fetchval(REGISTER, "both")
    key = str(uuid4())
    await connection.execute(
        """
        WITH failed AS (
            INSERT INTO candidate_events (candidate_id, type, actor_kind, data)
            VALUES ($1, 'candidate.approval_failed', 'service', jsonb_build_object('idempotency_key', $2::text))
            RETURNING id, candidate_id
        )
        INSERT INTO candidate_event_details SELECT id, candidate_id, '{"error": "no luck"}' FROM failed
        """,
        candidate,
        key,
    )
    for type_, data in (("approval_linked", {}), ("approved", {"linked": True})):
        await connection.execute(
            """
            INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, data)
            VALUES ($1, $2, 'user', $3, $4)
            """,
            candidate,
            f"candidate.{type_}",
            user,
            json.dumps({"idempotency_key": key, "provider_id": 10, **data}),
        )

    rows = await connection.fetch(OF_APPROVALS, candidate)

    assert [tuple(row)[1:] for row in rows] == [("failed", None, None, "no luck"), ("linked", user, 10, None)]
    assert len(await history(connection, candidate)) == 4  # none is copied back


@pytest.mark.parametrize("older_database_url", [BEFORE], indirect=True)
async def test_what_happened_before_the_log_is_recorded_once_however_often_it_is_upgraded(
    connection, older_database_url
):
    decided = [await rejected(connection), await approved(connection)]
    candidate = await connection.fetchval(REGISTER, "pending")
    decided.append((None, candidate))
    by_others = [await connection.fetch(OF_APPROVALS, id_) for _, id_ in decided]

    for _ in range(2):
        await asyncio.to_thread(migrations.upgrade, older_database_url, LOG)
        found = [await history(connection, id_) for _, id_ in decided]
        assert [[(type_, actor) for type_, actor, *_ in events] for events in found] == [
            [("registered", "applicant"), ("rejected", decided[0][0])],
            [
                ("registered", "applicant"),
                ("approval_requested", decided[1][0]),
                ("approval_failed", "service"),
                ("approval_requested", decided[1][0]),
                ("approved", decided[1][0]),
            ],
            [("registered", "applicant")],
        ]
        assert [await connection.fetch(OF_APPROVALS, id_) for _, id_ in decided] == by_others
        await asyncio.to_thread(migrations.downgrade, older_database_url, BEFORE)
        assert [await connection.fetch(OF_APPROVALS, id_) for _, id_ in decided] == by_others
