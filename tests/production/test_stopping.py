"""SIGTERM: every running request gets a response, and the process ends within 15 s."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from time import monotonic

import httpx

from .conftest import PASSWORD

PROMISED = 15.0  # seconds
CALLERS = 12


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()  # a zombie has ended
    except FileNotFoundError:
        return False


async def seconds_until_end(pid):
    started = monotonic()
    while is_running(pid):
        await asyncio.sleep(0.05)
    return monotonic() - started


async def log_in(client, email):
    answer = await client.post("/auth/login", json={"username": email, "password": PASSWORD})
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


async def test_no_request_fails_when_the_process_is_asked_to_end_under_load(
    serving, environment, registration, tmp_path
):
    environment = {
        **environment,
        "RATE_LIMIT_REGISTRATION": "",
        "RATE_LIMIT_DEFAULT": "",
        "DATABASE_TIMEOUT_SECONDS": "5",
    }
    answered = 0

    async with serving(environment, tmp_path) as process:

        async def call():
            """Send requests on one keep-alive connection until nothing listens any more."""
            nonlocal answered
            async with httpx.AsyncClient(base_url=process.url, timeout=PROMISED) as client:
                while True:
                    try:
                        response = await client.post("/candidates", json=registration())
                    except httpx.ConnectError:
                        return
                    assert response.status_code == 201
                    answered += 1

        callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
        while answered < 10 * CALLERS:
            await asyncio.sleep(0.01)
        before = answered
        os.kill(process.pid, signal.SIGTERM)
        assert await seconds_until_end(process.pid) < PROMISED
        await asyncio.gather(*callers)

    assert answered > before


async def test_an_approval_that_waits_for_billing_gets_a_response_before_the_process_ends(
    serving, environment, registration, admin_email, tmp_path
):
    body = registration()
    async with (
        serving(environment, tmp_path) as process,
        httpx.AsyncClient(base_url=process.url, timeout=PROMISED) as client,
        httpx.AsyncClient(base_url=environment["BILLING_SERVICE_URL"]) as billing,
    ):
        await log_in(client, admin_email)
        candidate = (await client.post("/candidates", json=body)).json()
        fault = {"mode": "hang", "names": [body["company_name"]]}
        (await billing.put("/sandbox/faults", json=fault)).raise_for_status()
        try:
            approval = asyncio.create_task(client.post(f"/candidates/{candidate['candidate_id']}/approve"))
            await asyncio.sleep(0.5)
            os.kill(process.pid, signal.SIGTERM)

            answer = await approval
            assert await seconds_until_end(process.pid) < PROMISED
        finally:
            (await billing.put("/sandbox/faults", json={"mode": "none"})).raise_for_status()

    assert answer.status_code == 502
    assert answer.json()["type"].endswith(":approval-waiting")
