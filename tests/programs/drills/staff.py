"""Users whose sessions end under traffic: how long do their tokens stay valid?"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

import asyncpg
import httpx

from .fleet import Fleet, Release
from .programs import beside

ENDED_SECONDS = 1.0
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 3.0  # of requests, around the change
PERIOD = 0.04  # seconds between two requests with one token at one process
SESSIONS_EACH = 2
PATH = "/candidates?limit=1"
RETRY = f"/candidates/{UUID(int=0)}/approval/retry"  # of no candidate: an admin would get a 404
# What an admin may no longer do in each role.
DEMOTIONS = {
    "auditor": {("GET", "/approvals"): 200, ("GET", "/audit"): 200, ("POST", RETRY): 403},
    "viewer": {("GET", "/approvals"): 403, ("GET", "/audit"): 403, ("POST", RETRY): 403},
}
ENDED_AT = """
    SELECT extract(epoch FROM min(revoked_at))::float8
    FROM sessions JOIN users ON users.id = user_id WHERE email = $1
"""


class Staff:
    """Users that a drill creates and changes with the documented commands."""

    def __init__(self, fleet: Fleet, release: Release, owner_url: str) -> None:
        self._fleet = fleet
        self._release = release
        self._owner_url = owner_url
        self._client = httpx.AsyncClient(
            timeout=30, trust_env=False, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
        )
        self.problems: list[str] = []

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def disable(self) -> float:
        """Disable an admin; seconds for which an old token still worked, as with the others below."""
        email, password = await self._employ("disabled")
        seconds = await self._lose(email, password, lambda: self._run(f"disable-user {email}"))
        self._expect((await self._log_in(email, password)).status_code, 401, "the disabled user's log-in")
        return seconds

    async def change_role(self) -> float:
        """Change an admin to an auditor, who reads everything and decides nothing, and another one to a viewer."""
        seconds = []
        for role, expected in DEMOTIONS.items():
            email, password = await self._employ(f"now-{role}")
            seconds.append(await self._lose(email, password, partial(self._run, f"set-role {email} --role {role}")))
            token = (await self._log_in(email, password)).json()["access_token"]
            for (method, path), status in expected.items():
                answer = await self._ask(self._fleet.url, method, path, token)
                self._expect(answer.status_code, status, f"{method} {path} by a former admin who is {role}")
        return max(seconds)

    async def change_password(self) -> float:
        """Change an admin's password."""
        email, password = await self._employ("renewed")
        other = secrets.token_urlsafe(16)
        command = f"set-password {email} --password-stdin <<< {other}"
        seconds = await self._lose(email, password, lambda: self._run(command))
        self._expect((await self._log_in(email, password)).status_code, 401, "a log-in with the password before")
        self._expect((await self._log_in(email, other)).status_code, 200, "a log-in with the new password")
        return seconds

    async def end_all(self) -> float:
        """End all sessions with the documented command."""
        email, password = await self._employ("one-of-all")
        seconds = await self._lose(email, password, lambda: self._run("end-sessions"))
        self._expect((await self._log_in(email, password)).status_code, 200, "a log-in after all sessions ended")
        return seconds

    async def _employ(self, name: str) -> tuple[str, str]:
        email, password = f"{name}@example.com", secrets.token_urlsafe(16)
        await self._run(f"create-user {email} --role admin --password-stdin <<< {password}")
        return email, password

    async def _lose(self, email: str, password: str, change: Callable[[], Awaitable[object]]) -> float:
        answers = [await self._log_in(email, password) for _ in range(SESSIONS_EACH)]
        tokens = [answer.raise_for_status().json()["access_token"] for answer in answers]
        refresh_token = answers[0].json()["refresh_token"]
        seen: Counter[int] = Counter()
        worked: list[float] = []
        urls = [self._fleet.url, *(f"http://127.0.0.1:{port}" for port in self._fleet.processes)]
        async with beside(*(self._go_on(url, token, seen, worked) for url in urls for token in tokens)):
            await asyncio.sleep(BEFORE_SECONDS)
            await change()
            await asyncio.sleep(AFTER_SECONDS)
        self._expect(len(worked) > 0 and seen[401] > 0, True, f"that the tokens of {email} worked and were refused")
        unexpected = seen.keys() - {200, 401}
        self._expect(unexpected, set(), f"other answers to {email}")
        response = await self._client.post(f"{self._fleet.url}/auth/refresh", json={"refresh_token": refresh_token})
        self._expect(response.status_code, 401, f"the refresh token of {email}")
        connection = await asyncpg.connect(self._owner_url)
        ended: float = await connection.fetchval(ENDED_AT, email)
        await connection.close()
        return max(0.0, max(worked) - ended)

    async def _go_on(self, url: str, token: str, seen: Counter[int], worked: list[float]) -> None:
        """Send requests with a token until cancelled; record the start of each successful one."""
        while True:
            began = time.time()
            try:
                status = (await self._ask(url, "GET", PATH, token)).status_code
            except httpx.HTTPError:
                # A process that is being replaced only responds through the gateway.
                self._expect(url == self._fleet.url, False, "a request through the gateway without a response")
            else:
                seen[status] += 1
                if status == 200:
                    worked.append(began)
            await asyncio.sleep(PERIOD)

    async def _log_in(self, email: str, password: str) -> httpx.Response:
        credentials = {"username": email, "password": password}
        return await self._client.post(f"{self._fleet.url}/auth/login", json=credentials)

    async def _ask(self, url: str, method: str, path: str, token: str) -> httpx.Response:
        return await self._client.request(method, url + path, headers={"Authorization": f"Bearer {token}"})

    async def _run(self, command: str) -> None:
        await self._release.run(f"provider-registration {command}", self._owner_url)

    def _expect(self, found: object, wanted: object, what: str) -> None:
        if found != wanted:
            self.problems.append(f"{what}: {found}, not {wanted}")
