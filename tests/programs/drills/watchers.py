"""Users who decide and read at once, at the same process and at another: do they see the decision?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import uuid4

import httpx

from .traffic import UNANSWERED, Failure, registration

WATCHERS = 3
PAUSE_SECONDS = 0.15
GIVEN_UP_SECONDS = 60.0  # a list of another process that is still out of date then
POLL_SECONDS = 0.1
TIMEOUT_SECONDS = 30.0


class Watchers:
    """Each registers at one process, decides at the first, and reads from all."""

    def __init__(self, urls: Sequence[str], email: str, password: str, random: Random) -> None:
        self._urls = list(urls)
        self._credentials = {"username": email, "password": password}
        self._random = random
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self._token = ""
        self._catching_up: set[asyncio.Task[None]] = set()
        self.forget()

    def forget(self) -> None:
        """Reset what was seen."""
        self.requests: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.slowest: dict[str, float] = {}
        self.looked = self.looked_elsewhere = self.behind = 0
        self.missed: list[str] = []
        self.longest_behind = 0.0  # seconds that a list of another process lacked a decision

    @property
    def slowest_request(self) -> tuple[float, str]:
        """Seconds, and which request."""
        return max(((seconds, what) for what, seconds in self.slowest.items()), default=(0.0, "none"))

    async def run(self) -> None:
        """Decide and read until cancelled."""
        async with self._client:
            response = await self._client.post(f"{self._urls[0]}/auth/login", json=self._credentials)
            self._token = response.raise_for_status().json()["access_token"]
            await asyncio.gather(*(self._repeat() for _ in range(WATCHERS)))

    async def _repeat(self) -> None:
        while True:
            await self._decide_and_look()
            await asyncio.sleep(PAUSE_SECONDS * self._random.uniform(0.5, 1.5))

    async def _decide_and_look(self) -> None:
        here, there = self._urls
        body = registration(f"company-{uuid4().hex}", self._random)
        registered = await self._ask("POST", self._random.choice(self._urls), "/candidates", json=body)
        if registered is None:
            return
        path = f"/candidates/{registered['candidate_id']}"
        for url in (here, there):
            self._expect(await self._ask("GET", url, path), {"pending"}, f"a registration, read at {self._name(url)}")
        decision = self._random.choice(["approve", "reject"])
        decided = await self._ask("POST", here, f"{path}/{decision}", json={} if decision == "reject" else None)
        if decided is None:
            return
        wanted = {decided["status"]}
        for url in (here, there):
            self._expect(await self._ask("GET", url, path), wanted, f"a decision, read at {self._name(url)}")
        await self._look_at_lists(here, there, registered | decided)

    async def _look_at_lists(self, here: str, there: str, decided: dict[str, Any]) -> None:
        """Check that the list with its new status contains it, and that the list of pending candidates does not."""
        status = decided["status"]
        for wanted, is_there in ((status, True), ("pending", False)):
            found = _has(await self._list(here, wanted), decided)
            if found is not None:
                self.looked += 1
                if found is not is_there:
                    self.missed.append(
                        f"{decided['candidate_id']} is {status}; in the deciding process's {wanted}: {found}"
                    )
        found = _has(await self._list(there, status), decided)
        if found is None:
            return
        self.looked_elsewhere += 1
        if not found:
            self.behind += 1
            task = asyncio.create_task(self._wait_for(there, decided))
            self._catching_up.add(task)
            task.add_done_callback(self._catching_up.discard)

    async def _wait_for(self, url: str, decided: dict[str, Any]) -> None:
        begun = time.monotonic()
        while time.monotonic() - begun < GIVEN_UP_SECONDS:
            rows = await self._list(url, decided["status"])
            if rows and (_has(rows, decided) or rows[-1]["created_at"] > decided["created_at"]):
                return  # it is listed, or this many newer ones are
            self.longest_behind = max(self.longest_behind, time.monotonic() - begun)
            await asyncio.sleep(POLL_SECONDS)

    async def _list(self, url: str, status: str) -> list[dict[str, Any]] | None:
        page = await self._ask("GET", url, "/candidates", params={"status": status, "limit": 100})
        return page and page["candidates"]

    def _expect(self, record: dict[str, Any] | None, statuses: set[str], what: str) -> None:
        if record is None:
            return
        self.looked += 1
        if record["status"] not in statuses:
            self.missed.append(f"{what}: {record['status']}")

    async def _ask(self, method: str, url: str, path: str, **how: object) -> dict[str, Any] | None:
        """The response's content; None, with a recorded failure, if it is wrong."""
        what = f"{method} {path.split('/')[1]} at {self._name(url)}"
        self.requests[what] += 1
        began = time.time()
        try:
            headers = {"Authorization": f"Bearer {self._token}"}
            response = await self._client.request(method, url + path, headers=headers, **how)
            status, detail = response.status_code, response.text[:300]
        except httpx.HTTPError as error:
            response, status, detail = None, UNANSWERED, repr(error)
        ended = time.time()
        self.slowest[what] = max(ended - began, self.slowest.get(what, 0.0))
        if response is None or not response.is_success:
            self.failures.append(Failure(began, ended, what, status, detail))
            return None
        return response.json()

    def _name(self, url: str) -> str:
        return f"process {self._urls.index(url) + 1}"


def _has(rows: list[dict[str, Any]] | None, candidate: dict[str, Any]) -> bool | None:
    return None if rows is None else any(row["candidate_id"] == candidate["candidate_id"] for row in rows)
