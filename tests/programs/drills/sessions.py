"""Users with tokens from several processes: which processes accept them, and until when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx

TIMEOUT_SECONDS = 30.0
GIVEN_UP_SECONDS = 5.0
POLL = 0.02
TRIES, BUSY = 5, 503  # on a busy machine
PATH = "/candidates?limit=1"


@dataclass(frozen=True)
class Tokens:
    """The tokens of a login or a refresh."""

    access: str
    refresh: str


class Sessions:
    """Sends requests to processes directly, by their numbers."""

    def __init__(self, urls: Sequence[str], email: str, password: str) -> None:
        self._urls = list(urls)
        self._credentials = {"username": email, "password": password}
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_SECONDS, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._ended: list[Tokens] = []

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def log_in(self, process: int) -> Tokens:
        """Log in."""
        return await self._tokens(process, "login", self._credentials)

    async def refresh(self, process: int, tokens: Tokens) -> Tokens:
        """The next tokens of a session."""
        return await self._tokens(process, "refresh", {"refresh_token": tokens.refresh})

    async def is_good(self, process: int, tokens: Tokens) -> bool:
        """Whether a process accepts the access token."""
        for _ in range(TRIES):
            status = (await self._ask(process, "GET", PATH, tokens)).status_code
            if status != BUSY:
                break
        return status == 200

    async def approve(self, process: int, tokens: Tokens, candidate_id: str) -> None:
        """Request an approval, whose response may be lost."""
        with suppress(httpx.HTTPError):
            await self._ask(process, "POST", f"/candidates/{candidate_id}/approve", tokens)

    async def refused(self) -> list[str]:
        """Valid tokens that are refused: of each process, sent to and refreshed at every process."""
        found = []
        for issuer in range(len(self._urls)):
            for other in range(len(self._urls)):
                tokens = await self.log_in(issuer)
                if not await self.is_good(other, tokens):
                    found.append(f"of {issuer} at {other}")
                tokens = await self.refresh(other, tokens)
                if not await self.is_good(issuer, tokens):
                    found.append(f"of {issuer}, refreshed by {other}, at {issuer}")
        return found

    async def end_one(self) -> float:
        """End a session at one process; return the seconds until no process accepts its token."""
        tokens = await self.log_in(0)
        (await self._ask(0, "POST", "/auth/logout", tokens)).raise_for_status()
        self._ended.append(tokens)
        begun = time.monotonic()
        for process in range(len(self._urls)):
            while time.monotonic() - begun < GIVEN_UP_SECONDS and await self.is_good(process, tokens):
                await asyncio.sleep(POLL)
        return time.monotonic() - begun

    async def revived(self) -> list[str]:
        """Ended sessions whose tokens a process still accepts."""
        return [
            f"session {number} at {process}"
            for number, tokens in enumerate(self._ended)
            for process in range(len(self._urls))
            if await self.is_good(process, tokens)
        ]

    async def _tokens(self, process: int, how: str, body: dict[str, str]) -> Tokens:
        for _ in range(TRIES):
            response = await self._client.post(f"{self._urls[process]}/auth/{how}", json=body)
            if response.status_code != BUSY:
                break
        content = response.raise_for_status().json()
        return Tokens(content["access_token"], content["refresh_token"])

    async def _ask(self, process: int, method: str, path: str, tokens: Tokens) -> httpx.Response:
        headers = {"Authorization": f"Bearer {tokens.access}"}
        return await self._client.request(method, self._urls[process] + path, headers=headers)
