"""Many cheap requests over one connection, each of which makes the service write a log line."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

TOGETHER = 8  # the number of requests that may wait on a connection


async def slowest_of(url: str, requests: int, *, limit: float) -> float:
    """Send requests, TOGETHER at a time; return the seconds of the slowest group, at most `limit`."""
    slowest = 0.0
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    for _ in range(requests // TOGETHER):
        started = time.monotonic()
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * TOGETHER)
        async with asyncio.timeout(limit):
            for _ in range(TOGETHER):
                await reader.readuntil(b'{"status":"live"}')
        slowest = max(slowest, time.monotonic() - started)
    writer.close()
    return slowest
