"""What callers see when the database is slow or has no connection left: a clear refusal at once, and no hang."""

from __future__ import annotations

import asyncio
from time import monotonic

import httpx
import pytest

from provider_registration.auth.models import Role

TIME_LIMIT = 0.9  # as production has it
PROMISED = 1.0
BUSY_MACHINE = 3.0  # what a machine that is busy with tests may add; without limits nobody would be answered at all
CALLERS = 40


@pytest.fixture
async def client(settings, run_service, tokens):
    """An admin's client of a service with few connections and the time limit of production."""
    small = settings.model_copy(update={"database_pool_size": 3, "database_timeout_seconds": TIME_LIMIT})
    headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
    async with run_service(small) as service, httpx.AsyncClient(base_url=service.url, headers=headers) as client:
        yield client


@pytest.fixture
def ask(client, registration):
    """Sends many requests of every kind at once; returns the responses and the seconds that the slowest took."""

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
    assert (await client.get(f"/candidates/{candidate['candidate_id']}")).json()["status"] == "pending"
    assert monotonic() - started < 2


async def test_a_request_that_was_refused_for_want_of_time_changed_nothing(client, register, registration, database):
    body = registration()
    async with database.transaction():
        await database.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
        assert (await client.post("/candidates", json=body)).status_code == 503

    assert (await client.post("/candidates", json=body)).status_code == 201
