"""The headers RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers) of a response."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from math import ceil

from limits import RateLimitItem

from provider_registration.web.headers import RawHeaders

RATE_LIMIT_HEADER, POLICY_HEADER = "RateLimit", "RateLimit-Policy"


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a limit: requests, until more are at `reset`, a Unix time."""

    name: str
    item: RateLimitItem
    left: int
    reset: float


_quotas: ContextVar[list[Quota] | None] = ContextVar("quotas", default=None)  # of the current request


def begin_quotas() -> list[Quota]:
    """Collect the quotas that are noted from now on in this request."""
    quotas: list[Quota] = []
    _quotas.set(quotas)
    return quotas


def note_quota(quota: Quota) -> None:
    """Note what is left of a limit that counted the current request."""
    quotas = _quotas.get()
    if quotas is not None:
        quotas.append(quota)


def quota_headers(quotas: list[Quota]) -> RawHeaders:
    """The headers that say what is left; none if nothing was counted."""
    if not quotas:
        return []
    now = time.time()
    # A request may count several times; what is left is in the last.
    last = {each.name: each for each in quotas}.values()
    left = ", ".join(f'"{each.name}";r={each.left};t={max(1, ceil(each.reset - now))}' for each in last)
    policy = ", ".join(f'"{each.name}";q={each.item.amount};w={each.item.get_expiry()}' for each in last)
    return [(b"ratelimit", left.encode()), (b"ratelimit-policy", policy.encode())]
