"""Counts and bounds requests by caller: by session, else by IP address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_registration.observability.metrics import RATE_LIMIT_REFUSALS
from provider_registration.web.addresses import network_of
from provider_registration.web.paths import route_path
from provider_registration.web.problems import problem_response
from provider_registration.web.quotas import begin_quotas, quota_headers
from provider_registration.web.rate_limits import RateLimits, TooManyRequests

# Probes and scrapes are frequent and come from one IP address.
UNLIMITED_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
MAX_CONCURRENT = 100  # requests of one caller, running or waiting
MAX_RUNNING = 20  # of one IP address; the others wait, so that they do not fill the queue for the database
CONCURRENT_RETRY_SECONDS = 1


class _Turns:
    """The concurrent requests of one caller."""

    def __init__(self) -> None:
        self.present = 0
        self.free = asyncio.Semaphore(MAX_RUNNING)


class _Place:
    """The place of one request among those of its caller."""

    def __init__(self, turns: _Turns) -> None:
        self._turns = turns
        self._is_taken, self._has_turn = True, False
        turns.present += 1

    async def wait_for_turn(self) -> None:
        await self._turns.free.acquire()
        self._has_turn = True

    def end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.free.release()

    def leave(self) -> bool:
        """Whether the caller has no other request now; False if the place was left before."""
        self.end_turn()
        if not self._is_taken:
            return False
        self._is_taken = False
        self._turns.present -= 1
        return not self._turns.present


class RateLimitMiddleware:
    """Counts and bounds every request except probes and scrapes; `caller_of` identifies the caller."""

    def __init__(self, app: ASGIApp, *, limits: RateLimits, caller_of: Callable[[Request], str]) -> None:
        self._app = app
        self._limits = limits
        self._caller_of = caller_of
        self._turns: dict[str, _Turns] = {}  # by caller, while it has requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        quotas = begin_quotas()
        caller = self._caller_of(request)
        if (turns := self._turns.get(caller)) is None:
            turns = self._turns[caller] = _Turns()
        if turns.present >= MAX_CONCURRENT:
            RATE_LIMIT_REFUSALS.labels("at_once").inc()
            await problem_response(TooManyRequests(CONCURRENT_RETRY_SECONDS), request)(scope, receive, send)
            return
        place = _Place(turns)
        try:
            # Not for sessions: they belong to known users, whose approvals may take a long time.
            if caller == network_of_client(request):
                await place.wait_for_turn()

            async def send_after_turn(message: Message) -> None:
                if message["type"] == "http.response.start":
                    place.end_turn()  # the work is done: a slow reader blocks no one
                    if _begins_event_stream(message):
                        self._leave(caller, place)  # a session's streams are bounded: those of many block no one
                    message["headers"] = [*message.get("headers", ()), *quota_headers(quotas)]
                await send(message)

            if (refusal := await self._refusal(caller)) is None:
                await self._app(scope, receive, send_after_turn)
            else:
                await problem_response(refusal, request)(scope, receive, send_after_turn)
        finally:
            self._leave(caller, place)

    def _leave(self, caller: str, place: _Place) -> None:
        if place.leave():
            del self._turns[caller]

    async def _refusal(self, caller: str) -> TooManyRequests | None:
        try:
            await self._limits.count_request(caller)
        except TooManyRequests as error:
            return error
        return None


def _begins_event_stream(start: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream") for name, value in start.get("headers", ())
    )


def network_of_client(request: Request) -> str:
    """The network to count: that of the peer, or of the client that a trusted proxy names."""
    return network_of(request.client.host if request.client else "")
