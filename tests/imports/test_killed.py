"""A process that is killed while it imports: another goes on, and every row is registered exactly once."""

from __future__ import annotations

import asyncio
import os
import signal

import asyncpg
import httpx

from provider_registration.auth.models import Role
from tests.service import PASSWORD, SECRETS_KEY, user_directory

from .files import a_row, as_csv

EMAIL = "admin@imports.example"
ROWS, INVALID = 3000, 60
KILLS = 3


async def test_rows_are_registered_once_though_processes_are_killed(
    own_database_url, shared_billing_url, serving, tmp_path
):
    environment = {
        "DATABASE_URL": own_database_url,
        "JWT_SECRET_KEY": SECRETS_KEY[::-1],
        "BILLING_SERVICE_URL": shared_billing_url,
    }
    async with user_directory(own_database_url) as users:
        await users.create(EMAIL, PASSWORD, Role.ADMIN)
    database = await asyncpg.connect(own_database_url)
    rows = [a_row(truck_count="none" if number % (ROWS // INVALID) == 0 else 3) for number in range(ROWS)]

    async def done():
        return await database.fetchval("SELECT count(*) FROM import_rows WHERE outcome IS NOT NULL")

    async with serving(environment, tmp_path) as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=60) as client:
            response = await client.post("/auth/login", json={"username": EMAIL, "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
            sent = await client.post("/imports", content=as_csv(rows), headers={"Content-Type": "text/csv"})
            url = f"/imports/{sent.json()['import_id']}"
            assert (await client.post(f"{url}/start", json={})).status_code == 202
        async with asyncio.timeout(60):
            while not await done():
                await asyncio.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    left = [await done()]
    for _ in range(KILLS):
        before = await done()
        await database.execute("UPDATE jobs SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")  # the lease ends
        async with serving(environment, tmp_path) as process:
            async with asyncio.timeout(60):
                while await done() == before < ROWS:
                    await asyncio.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
        left.append(await done())
    await database.execute("UPDATE jobs SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    async with serving(environment, tmp_path), asyncio.timeout(120):
        while await database.fetchval("SELECT state FROM jobs") != "done":
            await asyncio.sleep(0.1)
    outcomes = dict(await database.fetch("SELECT outcome, count(*) FROM import_rows GROUP BY outcome"))
    registered = await database.fetchval("SELECT count(*) FROM candidates")
    events = await database.fetchval("SELECT count(*) FROM candidate_events WHERE type = 'candidate.registered'")
    await database.close()
    assert left[0] < ROWS, "it was killed too late"
    assert outcomes == {"registered": ROWS - INVALID, "invalid": INVALID}
    assert (registered, events) == (ROWS - INVALID, ROWS - INVALID)
