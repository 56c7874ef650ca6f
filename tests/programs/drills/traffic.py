"""Clients of every endpoint that record the responses: each 201 and each 200 is a promise of the service."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID, uuid4

import httpx

PRODUCTS = ("apples", "oranges", "grapes", "bananas", "mangoes")
ANSWER_TIMEOUT = 60.0  # seconds
TOKEN_SECONDS = 600.0  # how often the clients' token is replaced; it is valid three times as long
PAUSE_AFTER_FAILURE = 0.2  # seconds
UNANSWERED = 0  # instead of a status


@dataclass(frozen=True)
class Failure:
    """A request that got a 5xx, an unexpected response, or none. Times are wall-clock times."""

    began: float
    ended: float
    endpoint: str
    status: int
    detail: str


@dataclass(frozen=True)
class Acknowledged:
    """A write that the service acknowledged; `at` is the time of the response."""

    candidate_id: UUID
    name: str
    at: float
    provider_id: int | None = None


class Traffic:
    """Clients that send requests repeatedly; `pace` 2 is twice as often, except for lists."""

    def __init__(
        self,
        urls: Sequence[str],
        email: str,
        password: str,
        *,
        metrics_token: str,
        random: Random,
        pace: float = 1.0,
        lists_a_second: float = 6.0,
    ) -> None:
        self._urls = list(urls)
        self._credentials = {"username": email, "password": password}
        self._metrics_token = metrics_token
        self._random = random
        self._pace = pace
        self._list_period = 2 / lists_a_second
        self._client = httpx.AsyncClient(
            timeout=ANSWER_TIMEOUT,
            trust_env=False,
            # One connection per request: a reloaded gateway closes idle ones, perhaps as a request is sent on one.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
        self._token, self._token_until = "", 0.0
        self._undecided: deque[Acknowledged] = deque(maxlen=2000)
        self._readable: deque[UUID] = deque(maxlen=2000)
        self.registered: dict[UUID, Acknowledged] = {}
        self.approved: dict[UUID, Acknowledged] = {}
        self.rejected: dict[UUID, Acknowledged] = {}
        self.names: dict[UUID, str] = {}  # of all candidates in any response
        self.requests: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.failures: list[Failure] = []
        self.written: list[tuple[float, float]] = []  # start and end of each successful registration

    async def run(self) -> None:
        """Send requests until cancelled."""
        async with self._client:
            await asyncio.gather(
                *(self._repeat(self._register, 0.2) for _ in range(2)),
                *(self._repeat(self._approve, 0.8) for _ in range(4)),
                self._repeat(self._reject, 0.7),
                *(self._repeat(self._read, 0.2) for _ in range(2)),
                *(self._repeat(self._list, self._list_period * self._pace) for _ in range(2)),
                self._repeat(self._see_approvals, 1.0),
                self._repeat(self._begin_and_end_a_session, 3.0),
                self._repeat(self._look_after, 1.0),
            )

    @property
    def slowest_request(self) -> tuple[float, str]:
        """Seconds, and which request."""
        return max(((seconds, endpoint) for endpoint, seconds in self.slowest.items()), default=(0.0, "none"))

    def forget_times(self) -> None:
        """Reset the failures, the slowest requests and the counts."""
        self.failures, self.slowest, self.requests = [], {}, Counter()

    def log_in_again(self) -> None:
        """Stop using earlier tokens."""
        self._token_until = 0.0

    def writing_again_after(self, moment: float) -> float | None:
        """When registrations permanently succeeded again after a time; None: not yet."""
        failed = [one.ended for one in self.failures if one.endpoint == "POST /candidates" and one.ended > moment]
        since = max(failed, default=moment)
        return next((ended for began, ended in self.written if began > moment and ended > since), None)

    async def _repeat(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        seconds /= self._pace
        await asyncio.sleep(self._random.uniform(0, seconds))
        while True:
            begun = time.monotonic()
            failures = len(self.failures)
            await work()
            pause = PAUSE_AFTER_FAILURE if len(self.failures) > failures else 0.0
            await asyncio.sleep(max(pause, seconds * self._random.uniform(0.5, 1.5) - (time.monotonic() - begun)))

    async def _ask(
        self,
        endpoint: str,
        *,
        expected: Sequence[int] = (200,),
        path: str | None = None,
        token: str = "",
        **how: object,
    ) -> httpx.Response | None:
        """The response, if it is expected; all others are recorded as failures."""
        method, _, template = endpoint.partition(" ")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        began = time.time()
        self.requests[endpoint] += 1
        url = self._random.choice(self._urls) + (path or template)
        try:
            response = await self._client.request(method, url, headers=headers, **how)
            status, detail = response.status_code, response.text[:300]
        except httpx.HTTPError as error:
            response, status, detail = None, UNANSWERED, repr(error)
        ended = time.time()
        self.slowest[endpoint] = max(ended - began, self.slowest.get(endpoint, 0.0))
        if status not in expected:
            self.failures.append(Failure(began, ended, endpoint, status, detail))
            return None
        return response

    async def _bearer(self) -> str:
        if time.monotonic() > self._token_until:
            response = await self._ask("POST /auth/login", json=self._credentials)
            if response is not None:
                self._token = response.json()["access_token"]
                self._token_until = time.monotonic() + TOKEN_SECONDS
        return self._token

    async def _register(self) -> None:
        name = f"company-{uuid4().hex}"
        began = time.time()
        response = await self._ask("POST /candidates", expected=(201,), json=registration(name, self._random))
        if response is not None:
            self.written.append((began, time.time()))
            candidate_id = UUID(response.json()["candidate_id"])
            one = Acknowledged(candidate_id, name, time.time())
            self.names[candidate_id] = name
            self.registered[candidate_id] = one
            self._undecided.append(one)
            self._readable.append(candidate_id)

    async def _approve(self) -> None:
        if not self._undecided:
            return
        one = self._undecided.popleft()
        endpoint = "POST /candidates/{candidate_id}/approve"
        response = await self._ask(endpoint, path=f"/candidates/{one.candidate_id}/approve", token=await self._bearer())
        if response is not None:
            provider_id = response.json()["provider_id"]
            self.approved[one.candidate_id] = Acknowledged(one.candidate_id, one.name, time.time(), provider_id)

    async def _reject(self) -> None:
        if not self._undecided:
            return
        one = self._undecided.popleft()
        endpoint = "POST /candidates/{candidate_id}/reject"
        path = f"/candidates/{one.candidate_id}/reject"
        response = await self._ask(endpoint, path=path, token=await self._bearer(), json={"reason": "No cold chain"})
        if response is not None:
            self.rejected[one.candidate_id] = Acknowledged(one.candidate_id, one.name, time.time())

    async def _read(self) -> None:
        if self._readable:
            candidate_id = self._random.choice(self._readable)
            await self._ask(
                "GET /candidates/{candidate_id}", path=f"/candidates/{candidate_id}", token=await self._bearer()
            )

    async def _list(self) -> None:
        query: dict[str, object] = {"limit": self._random.choice([20, 100])}
        if self._random.random() < 0.5:
            query["status"] = self._random.choice(["pending", "approved", "rejected"])
        if self._random.random() < 0.5:
            query["product"] = self._random.choice(PRODUCTS)
        await self._ask("GET /candidates", params=query, token=await self._bearer())

    async def _see_approvals(self) -> None:
        await self._ask("GET /approvals", token=await self._bearer())
        if self._readable:
            candidate_id = self._random.choice(self._readable)
            token = await self._bearer()
            path = f"/candidates/{candidate_id}/approval"
            events = "GET /candidates/{candidate_id}/approval/events"
            await self._ask(events, path=f"{path}/events", token=token)
            # Usually nothing waits or is in doubt; what counts is that there is a response.
            retry = "POST /candidates/{candidate_id}/approval/retry"
            await self._ask(retry, path=f"{path}/retry", expected=(200, 400, 404, 409), token=token)
            resolve = "POST /candidates/{candidate_id}/approval/resolve"
            body = {"resolution": "let_go"}
            await self._ask(resolve, path=f"{path}/resolve", expected=(400, 404, 409), token=token, json=body)

    async def _begin_and_end_a_session(self) -> None:
        response = await self._ask("POST /auth/login", json=self._credentials)
        if response is None:
            return
        body = {"refresh_token": response.json()["refresh_token"]}
        response = await self._ask("POST /auth/refresh", json=body)
        if response is not None:
            await self._ask("POST /auth/logout", expected=(204,), token=response.json()["access_token"])

    async def _look_after(self) -> None:
        for endpoint in ("GET /health", "GET /health/live", "GET /health/ready"):
            await self._ask(endpoint)
        await self._ask("GET /metrics", token=self._metrics_token)
        await self._ask("GET /openapi.json", token=await self._bearer())


def registration(name: str, random: Random) -> dict[str, object]:
    """A registration."""
    return {
        "company_name": name,
        "contact_email": f"{name}@example.com",
        "products": random.sample(PRODUCTS, random.randint(1, 3)),
        "truck_count": random.randint(1, 40),
        "capacity_tons_per_day": random.randint(1, 300),
    }
