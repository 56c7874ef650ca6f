"""A process that is killed while a receiver has a message, but has not responded: another sends it again."""

from __future__ import annotations

import asyncio
import os
import signal

import asyncpg
import httpx

from provider_registration.auth.models import Role
from tests.service import PASSWORD, SECRETS_KEY, a_registration, user_directory

from .receivers import OK, receiving

EMAIL = "admin@webhooks.example"


async def test_a_message_of_a_killed_process_is_sent_again_with_its_id(
    own_database_url, shared_billing_url, serving, tmp_path
):
    environment = {
        "DATABASE_URL": own_database_url,
        "JWT_SECRET_KEY": SECRETS_KEY[::-1],
        "SECRETS_KEY": SECRETS_KEY,
        "BILLING_SERVICE_URL": shared_billing_url,
        "WEBHOOKS_ALLOW_HTTP": "true",
        "WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.1",
    }
    async with user_directory(own_database_url) as users:
        await users.create(EMAIL, PASSWORD, Role.ADMIN)

    async def never(_message, _writer):
        await asyncio.sleep(3600)

    async with receiving() as receiver:
        receiver.respond = never
        async with serving(environment, tmp_path) as process:
            async with httpx.AsyncClient(base_url=process.url, timeout=30) as client:
                response = await client.post("/auth/login", json={"username": EMAIL, "password": PASSWORD})
                authorization = {"Authorization": f"Bearer {response.json()['access_token']}"}
                url = f"http://127.0.0.1:{receiver.port}/"
                added = (await client.post("/webhooks", json={"url": url}, headers=authorization)).json()
                await client.post("/candidates", json=a_registration())
            await receiver.has(1, seconds=60)
            os.kill(process.pid, signal.SIGKILL)
        receiver.respond = None
        receiver.always(OK)
        database = await asyncpg.connect(own_database_url)
        left = await database.fetchrow("SELECT state, attempts FROM deliveries")
        await database.execute("UPDATE deliveries SET next_attempt_at = clock_timestamp()")  # the lease ends
        async with serving(environment, tmp_path):
            first, second = await receiver.has(2, seconds=60)
            async with asyncio.timeout(20):
                while await database.fetchval("SELECT state FROM deliveries") != "delivered":
                    await asyncio.sleep(0.05)
        await database.close()

    assert tuple(left) == ("delivering", 1)
    assert first.id == second.id
    assert first.body == second.body
    for message in (first, second):
        assert message.verified(added["secret"])
