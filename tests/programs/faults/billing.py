"""The billing sandbox for scenarios: they make it fail, stop it, and read its requests."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from provider_registration.local.background_server import serve_in_background
from provider_registration.local.sandbox import create_sandbox

PAGE = 1000


class Billing:
    """One sandbox in this event loop; its port and its providers outlive a stop."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "billing.sqlite3"
        self._running = AsyncExitStack()
        self._client: httpx.AsyncClient
        self.url = ""

    async def start(self) -> None:
        """Start it, on its earlier port."""
        port = urlsplit(self.url).port or 0
        self.url = await self._running.enter_async_context(serve_in_background(create_sandbox(self._state), port))
        # The pool must not close idle connections, which could hit a request; the sandbox keeps them longer.
        client = httpx.AsyncClient(base_url=self.url, timeout=30, limits=httpx.Limits(keepalive_expiry=60))
        self._client = await self._running.enter_async_context(client)

    async def close(self) -> None:
        """Stop it: connections are refused from now on."""
        await self._running.aclose()

    async def recover(self) -> None:
        """Work normally, honour keys, and forget earlier requests."""
        if self._client.is_closed:
            await self.start()
        await self.fail("none")
        await self.set(honour_idempotency_key=True, latency_ms=0)
        await self.forget_requests()

    async def forget_requests(self) -> None:
        """Clear the list of requests."""
        (await self._client.delete("/sandbox/requests")).raise_for_status()

    async def fail(self, mode: str, **how: object) -> None:
        """Make the next requests fail in a mode of the sandbox."""
        (await self._client.put("/sandbox/faults", json={"mode": mode, **how})).raise_for_status()

    async def set(self, **settings: object) -> None:
        """Change the sandbox's settings."""
        (await self._client.put("/sandbox/settings", json=settings)).raise_for_status()

    async def plant(self, name: str) -> int:
        """Create another company's provider; return its ID."""
        response = await self._client.post("/provider", json={"name": name})
        assert response.status_code == 201, response.text
        return response.json()["id"]

    async def provider_ids(self, names: set[str]) -> dict[str, list[int]]:
        """IDs of the providers with these names."""
        found: dict[str, list[int]] = defaultdict(list)
        if len(names) < PAGE // 10:
            for name in names:
                for provider in await self._page(name=name):
                    found[name].append(provider["id"])
            return found
        offset = 0
        while providers := await self._page(limit=PAGE, offset=offset):
            offset += PAGE
            for provider in providers:
                if provider["name"] in names:
                    found[provider["name"]].append(provider["id"])
        return found

    async def _page(self, **which: object) -> list[dict[str, Any]]:
        response = await self._client.get("/sandbox/providers", params=which)
        return response.raise_for_status().json()["providers"]

    async def requests(self) -> list[dict[str, Any]]:
        """Requests for providers since the last recovery, at most the last 10,000."""
        response = await self._client.get("/sandbox/requests")
        return response.raise_for_status().json()["requests"]
