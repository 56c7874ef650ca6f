"""Counting every request, and whom it is counted for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_registration.observability.metrics import RATE_LIMIT_REFUSALS
from provider_registration.web.addresses import network_of
from provider_registration.web.paths import route_path
from provider_registration.web.problems import problem_response
from provider_registration.web.rate_limits import RateLimits, TooManyRequests

# Probes and scrapes come often, and from one address.
UNLIMITED_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
MAX_AT_ONCE = 100  # requests of one caller, under way or waiting
MAX_UNDER_WAY = 20  # of one address; the others wait their turn, or everybody would wait for the database behind them
AT_ONCE_RETRY_SECONDS = 1


class _Turns:
    """Requests of one caller."""

    def __init__(self) -> None:
        self.present = 0
        self.free = asyncio.Semaphore(MAX_UNDER_WAY)


class RateLimitMiddleware:
    """Counts every request but probes and scrapes, and bounds those at once; `caller_of` names who asks."""

    def __init__(self, app: ASGIApp, *, limits: RateLimits, caller_of: Callable[[Request], str]) -> None:
        self._app = app
        self._limits = limits
        self._caller_of = caller_of
        self._turns: dict[str, _Turns] = {}  # by caller; who has no request is not in it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        caller = self._caller_of(request)
        turns = self._turns.setdefault(caller, _Turns())
        if turns.present >= MAX_AT_ONCE:
            RATE_LIMIT_REFUSALS.labels("at_once").inc()
            await problem_response(TooManyRequests(AT_ONCE_RETRY_SECONDS), request)(scope, receive, send)
            return
        turns.present += 1
        try:
            async with AsyncExitStack() as turn:
                # A session is that of a known user, whose approvals may take long.
                if caller == address_of(request):
                    await turn.enter_async_context(turns.free)

                async def send_after_turn(message: Message) -> None:
                    await turn.aclose()  # the work is done: a caller who reads slowly keeps nobody waiting
                    await send(message)

                if (refusal := await self._refusal(caller)) is None:
                    await self._app(scope, receive, send_after_turn)
                else:
                    await problem_response(refusal, request)(scope, receive, send_after_turn)
        finally:
            turns.present -= 1
            if not turns.present:
                del self._turns[caller]

    async def _refusal(self, caller: str) -> TooManyRequests | None:
        try:
            await self._limits.count_request(caller)
        except TooManyRequests as error:
            return error
        return None


def address_of(request: Request) -> str:
    """The network address to count for: the peer's, or what a trusted proxy says of it."""
    return network_of(request.client.host if request.client else "")
