"""Responses while the database is slow or has no free connection: a clear error at once, and no hang."""

from __future__ import annotations

import asyncio
from time import monotonic
from uuid import uuid4

import asyncpg
import httpx
import pytest

from provider_registration.auth.models import Role
from tests.service import PASSWORD

TIME_LIMIT = 0.9  # as production has it
PROMISED = 1.0
BUSY_MACHINE = 3.0  # what a busy machine may add; without limits there would be no response at all
CALLERS = 40


@pytest.fixture
async def client(settings, run_service, tokens):
    """An admin's client of a service with few connections and production's timeout."""
    small = settings.model_copy(update={"database_pool_size": 3, "database_timeout_seconds": TIME_LIMIT})
    headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
    async with run_service(small) as service, httpx.AsyncClient(base_url=service.url, headers=headers) as client:
        yield client


@pytest.fixture
def ask(client, registration):
    """Send many requests of every kind at once; return the responses and the seconds that the slowest took."""

    async def ask(candidate):
        path = f"/candidates/{candidate['candidate_id']}"
        calls = (
            lambda: client.get(path),
            lambda: client.get("/candidates"),
            lambda: client.post("/candidates", json=registration()),
            lambda: client.post(f"{path}/reject"),
            lambda: client.post(f"{path}/approve"),
            lambda: client.get(f"{path}/approval/events"),
        )

        async def timed(call):
            started = monotonic()
            return await call(), monotonic() - started

        answers = await asyncio.gather(*(timed(calls[number % len(calls)]) for number in range(CALLERS)))
        return [response for response, _ in answers], max(seconds for _, seconds in answers)

    return ask


async def test_a_database_that_is_stuck_refuses_everyone_within_a_second_and_recovers(ask, client, register, database):
    candidate = await register()
    async with database.transaction():
        await database.execute("LOCK TABLE candidates, approval_events IN ACCESS EXCLUSIVE MODE")
        for _ in range(2):
            responses, slowest = await ask(candidate)
            assert {response.status_code for response in responses} == {503}
            assert all(response.headers["Retry-After"] == "1" for response in responses)
            assert slowest < PROMISED + BUSY_MACHINE
            assert (await client.get("/health/live")).status_code == 200

    started = monotonic()
    assert (await client.get("/candidates")).status_code == 200
    found = (await client.get(f"/candidates/{candidate['candidate_id']}")).json()
    assert monotonic() - started < 2
    assert found["status"] in ("pending", "rejected")  # a write that was refused may have been done, once
    assert found["version"] == (1 if found["status"] == "pending" else 2)


async def test_a_request_that_was_refused_for_want_of_time_changed_nothing(client, register, registration, database):
    body = registration()
    async with database.transaction():
        await database.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
        assert (await client.post("/candidates", json=body)).status_code == 503

    assert (await client.post("/candidates", json=body)).status_code == 201


WAITING_HERE = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'provider-registration' AND wait_event_type = 'Lock'
"""


async def test_an_ended_session_is_known_though_every_connection_is_taken(
    settings, run_service, users, database, migrated_database_url
):
    few = settings.model_copy(update={"database_pool_size": 2, "database_timeout_seconds": 30})
    email = f"{uuid4().hex}@example.com"
    user_id = await users.create(email, PASSWORD, Role.VIEWER)
    locking = await asyncpg.connect(migrated_database_url)
    async with run_service(few) as service, httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        login = await client.post("/auth/login", json={"username": email, "password": PASSWORD})
        token = {"Authorization": f"Bearer {login.json()['access_token']}"}
        async with locking.transaction():
            await locking.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
            before = await database.fetchval(WAITING_HERE)
            crowd = [
                asyncio.create_task(client.get("/candidates", params={"limit": number + 1}, headers=token))
                for number in range(few.database_pool_size * 3)
            ]
            async with asyncio.timeout(20):
                while await database.fetchval(WAITING_HERE) < before + few.database_pool_size:
                    await asyncio.sleep(0.02)
            await database.execute("UPDATE sessions SET revoked_at = clock_timestamp() WHERE user_id = $1", user_id)

            statuses = [422]  # of a request whose query is refused after authentication
            async with asyncio.timeout(20):
                while statuses[-1] == 422:
                    refused = await client.get("/candidates", params={"limit": 0}, headers=token)
                    statuses.append(refused.status_code)
                    await asyncio.sleep(0.05)
            assert statuses[-1] == 401
            assert not any(each.done() for each in crowd)
        await asyncio.gather(*crowd)
    await locking.close()
