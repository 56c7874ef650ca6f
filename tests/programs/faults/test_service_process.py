"""A replica is ready when its own process responds."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest

from provider_registration.local.background_server import serve_in_background

from . import service_process


async def everybody_is_live(_scope, _receive, send):
    """Another program that responds 200 to everything."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b""})


async def test_another_program_that_responds_on_the_port_is_not_taken_for_the_replica(world, monkeypatch):
    async with serve_in_background(everybody_is_live) as url:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/health/live")).status_code == 200
        monkeypatch.setattr(service_process, "a_port", lambda: urlsplit(url).port)

        with pytest.raises(AssertionError, match="did not start"):
            await world.start()
