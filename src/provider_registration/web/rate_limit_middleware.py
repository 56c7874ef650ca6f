"""Counting every request, and whom it is counted for."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from provider_registration.web.paths import route_path
from provider_registration.web.problems import problem_response
from provider_registration.web.rate_limits import RateLimits, TooManyRequests

# Probes and scrapes come often, and from one address.
UNLIMITED_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
MAX_REMEMBERED = 4096  # addresses
IPV6_NETWORK_BITS = 64  # what one customer is commonly given


class RateLimitMiddleware:
    """Counts every request but probes and scrapes; `caller_of` names who asks."""

    def __init__(self, app: ASGIApp, *, limits: RateLimits, caller_of: Callable[[Request], str]) -> None:
        self._app = app
        self._limits = limits
        self._caller_of = caller_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._limits.counts_requests and scope["type"] == "http" and route_path(scope) not in UNLIMITED_PATHS:
            request = Request(scope)
            try:
                await self._limits.count_request(self._caller_of(request))
            except TooManyRequests as error:
                await problem_response(error, request)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def address_of(request: Request) -> str:
    """The network address to count for: the peer's, or what a trusted proxy says of it; /64 for IPv6."""
    return _network_of(request.client.host if request.client else "")


@lru_cache(MAX_REMEMBERED)
def _network_of(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False))
    return str(address)
