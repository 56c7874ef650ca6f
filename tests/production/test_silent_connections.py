"""Connections that send nothing occupy places for a limited time only."""

from __future__ import annotations

import asyncio
import resource
from urllib.parse import urlsplit

import httpx

HANDLES = 64  # of which the service has some itself
SILENT = 100
CLOSED_WITHIN = 30.0  # seconds; HEAD_SECONDS is 10


async def test_silent_connections_that_take_every_file_handle_are_closed(serving, environment, tmp_path):
    refused, status = 0, None
    async with serving(environment, tmp_path) as process:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (HANDLES, HANDLES))
        address = urlsplit(process.url)
        silent = [await asyncio.open_connection(address.hostname, address.port) for _ in range(SILENT)]
        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=elsewhere, timeout=5) as client, asyncio.timeout(CLOSED_WITHIN):
            while status is None:
                try:
                    status = (await client.get(f"{process.url}/health/live")).status_code
                except httpx.TransportError:  # closed at once instead of left without a response
                    refused += 1
                    await asyncio.sleep(0.2)
        for _, writer in silent:
            writer.transport.abort()

    assert refused > 0  # the handles were all taken
    assert status == 200
