"""The real service with webhooks, receivers on loopback that it may call, and an admin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest

from tests.production.conftest import serving_fixture  # noqa: F401 - a fixture
from tests.running_service import Contract, serving
from tests.service import a_registration, make_settings, token_of_admin

LOOPBACK = {"webhooks_allow_http": True, "webhooks_allowed_networks": "127.0.0.0/8"}
FEW_CONNECTIONS = {"database_pool_size": 3}  # each takes 0.03 s of processor time


@dataclass
class Staff:
    """An admin's client, and the database behind the service."""

    client: httpx.AsyncClient
    database: asyncpg.Connection
    secrets: dict[str, str] = field(default_factory=dict)

    async def add(self, receiver, path="/hook", **more: Any) -> str:
        """Add a webhook to a receiver; return its ID."""
        url = f"http://127.0.0.1:{receiver.port}{path}"
        response = await self.client.post("/webhooks", json={"url": url, **more})
        assert response.status_code == 201, response.text
        added = response.json()
        self.secrets[added["webhook_id"]] = added["secret"]
        return added["webhook_id"]

    async def register(self) -> str:
        """Register a company; return its ID."""
        response = await self.client.post("/candidates", json=a_registration())
        assert response.status_code == 201, response.text
        return response.json()["candidate_id"]

    async def webhook(self, webhook_id: str) -> dict[str, Any]:
        return (await self.client.get(f"/webhooks/{webhook_id}")).json()

    async def deliveries(self, webhook_id: str) -> list[asyncpg.Record]:
        """The deliveries of a webhook, oldest first."""
        return await self.database.fetch("SELECT * FROM deliveries WHERE target = $1 ORDER BY id", webhook_id)

    async def until(self, webhook_id: str, seconds: float = 20, **columns: Any) -> asyncpg.Record:
        """The only delivery of a webhook, once it has these values."""
        async with asyncio.timeout(seconds):
            while True:
                rows = await self.deliveries(webhook_id)
                if rows and {name: rows[0][name] for name in columns} == columns:
                    return rows[0]
                await asyncio.sleep(0.05)

    async def make_due(self, webhook_id: str) -> None:
        """Let the time until the next attempt pass."""
        await self.database.execute(
            "UPDATE deliveries SET next_attempt_at = clock_timestamp() WHERE target = $1 AND state = 'pending'",
            webhook_id,
        )


@asynccontextmanager
async def staffed(database_url: str, billing_url: str, **more: Any) -> AsyncIterator[Staff]:
    """A service of its own with an admin, whose responses match the OpenAPI document."""
    settings = make_settings(database_url, billing_url, **{**LOOPBACK, **FEW_CONNECTIONS, **more})
    async with serving(settings) as service:
        check = Contract.of(service.app).check
        database = await asyncpg.connect(database_url)
        async with httpx.AsyncClient(base_url=service.url, timeout=30, event_hooks={"response": [check]}) as client:
            client.headers["Authorization"] = f"Bearer {await token_of_admin(database)}"
            yield Staff(client, database)
        await database.close()


@pytest.fixture
async def staff(own_database_url, shared_billing_url):
    """A service with a database of its own, for one test."""
    async with staffed(own_database_url, shared_billing_url) as staff:
        yield staff
