"""Honest clients that send requests from their own IP addresses during an attack."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from statistics import median, quantiles
from time import perf_counter

import httpx

from .stage import EMAIL, PASSWORD, Stage

PATIENCE_SECONDS = 30.0
LIVE, READY, STAFF, SIGN_IN = "live", "ready", "staff", "sign-in"
EVERY = {LIVE: 0.02, READY: 0.25, STAFF: 0.2, SIGN_IN: 1.5}  # seconds between two requests
SIGN_IN_ADDRESSES = 100


@dataclass
class Measured:
    """Results of the honest clients: seconds of each kind of request, and failures."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def live_p50(self) -> float:
        return median(self.seconds[LIVE])

    @property
    def live_p99(self) -> float:
        return quantiles(self.seconds[LIVE] * 2, n=100)[98]  # which needs at least two

    @property
    def slowest_sign_in(self) -> float:
        return max(self.seconds[SIGN_IN])


class Watch:
    """The honest clients of one service."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._front = f"http://127.0.0.1:{stage.port}"
        self._token = ""

    async def sign_in(self, address: str = "127.0.3.200") -> httpx.Response:
        """Sign in as a member of staff."""
        async with self._client(self._front, address) as client:
            return await client.post("/auth/login", json={"username": EMAIL, "password": PASSWORD})

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Measured]:
        """Send requests during the block, each kind at least once."""
        if not self._token:
            self._token = (await self.sign_in()).raise_for_status().json()["access_token"]
        measured = Measured()
        own = self._stage.process.url
        addresses = cycle(f"127.0.3.{host}" for host in range(1, SIGN_IN_ADDRESSES))
        async with AsyncExitStack() as stack:
            live, ready = [await stack.enter_async_context(self._client(own, f"127.0.2.{host}")) for host in (1, 2)]
            staff = await stack.enter_async_context(self._client(self._front, "127.0.2.3"))
            staff.headers["Authorization"] = f"Bearer {self._token}"
            kinds: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
                LIVE: lambda: live.get("/health/live"),
                READY: lambda: ready.get("/health/ready"),
                STAFF: lambda: staff.get("/candidates"),
                SIGN_IN: lambda: self.sign_in(next(addresses)),
            }
            end = asyncio.Event()
            asking = [asyncio.create_task(_ask(kind, ask, measured, end)) for kind, ask in kinds.items()]
            try:
                yield measured
            finally:
                end.set()
                await asyncio.gather(*asking)

    def _client(self, url: str, address: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(local_address=address)
        return httpx.AsyncClient(base_url=url, transport=transport, timeout=PATIENCE_SECONDS, trust_env=False)


async def _ask(kind: str, ask: Callable[[], Awaitable[httpx.Response]], measured: Measured, end: asyncio.Event) -> None:
    while True:
        begun = perf_counter()
        try:
            status = (await ask()).status_code
        except httpx.HTTPError as error:
            status = type(error).__name__
        measured.seconds[kind].append(perf_counter() - begun)
        if status != 200:
            measured.failures[f"{kind}: {status}"] += 1
        if end.is_set():
            return
        try:
            async with asyncio.timeout(EVERY[kind]):
                await end.wait()
        except TimeoutError:
            pass
