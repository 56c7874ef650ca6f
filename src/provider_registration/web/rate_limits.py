"""Rate limits for each caller, counted in memory or, for several processes, in Redis."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, cast

from limits import RateLimitItem, parse_many
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from provider_registration.errors import LimitExceededError, UnavailableError
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import RATE_LIMIT_REFUSALS, RATE_LIMIT_STORAGE_ERRORS
from provider_registration.web.counts_in_memory import CountsInMemory
from provider_registration.web.quotas import Quota, note_quota

logger = logging.getLogger(__name__)

STORAGE_TIMEOUT = 0.5  # seconds
MAX_STORAGE_CONNECTIONS = 50  # of a process; each serves about 5,000 requests/s. Other requests wait for one
PROBE_SECONDS = 5.0  # between requests that try a hanging storage; others skip it
# The sign-in limit of one IP address for all accounts, as a multiple of its limit for one account; successes count too.
ACCOUNTS_PER_ADDRESS = 10
LOST_LINKS = "3/hour"  # e-mails with a new link to one e-mail address: a stranger must not fill its mailbox
INVALID_REPLY = (ArithmeticError, LookupError, TypeError, ValueError)  # raised for replies that Redis never sends


class TooManyRequests(LimitExceededError):
    """The caller sends too many requests."""

    code = "too-many-requests"
    title = "Too many requests"

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"Too many requests; try again in {self.retry_after} s."


class RateLimitsUnavailable(UnavailableError):
    """The limit cannot be counted, and serving the request without it is not safe."""

    code = "rate-limits-unavailable"
    title = "Rate limits unavailable"
    retry_after = 5

    def __str__(self) -> str:
        return "Sign-in is temporarily unavailable (rate limiting is down). Try again in a moment."


@dataclass(frozen=True, slots=True)
class _Limit:
    name: str
    items: list[RateLimitItem]
    limiter: RateLimiter

    def note_left(self, item: RateLimitItem, left: int, reset: float) -> None:
        """Note what is left of one of the items, for the response."""
        position = self.items.index(item)
        note_quota(Quota(f"{self.name}-{position + 1}" if position else self.name, item, left, reset))


class RateLimits:
    """The limits of the service, in the notation of the `limits` library: `5/minute; 100/day`.

    An empty limit is off. If the storage fails, `login` refuses requests and the others let them pass.
    """

    def __init__(self, *, storage_url: str, login: str, registration: str, default: str) -> None:
        self._logger = RateLimitedLogger(logger)
        self._storage = storage = _storage(storage_url)
        moving, counting = MovingWindowRateLimiter(storage), SlidingWindowCounterRateLimiter(storage)
        self._login = _Limit("login", parse_many(login) if login else [], moving)
        self._registration = _Limit("registration", parse_many(registration) if registration else [], counting)
        self._default = _Limit("default", parse_many(default) if default else [], counting)
        self._lost_links = _Limit("lost_link", parse_many(LOST_LINKS), counting)
        self._breaker = _Breaker()
        self._counts = storage if isinstance(storage, CountsInMemory) else None
        self._login_turns: dict[tuple[str, str], _Turn] = {}  # bounded by RateLimitMiddleware

    async def count_registration(self, caller: str) -> None:
        """Count a registration.

        Raises:
            TooManyRequests: too many registrations.
        """
        await self._count(self._registration, caller)

    async def count_lost_link(self, caller: str, address: str) -> None:
        """Count a request for a lost link: as a registration of the caller, then for the e-mail address.

        Raises:
            TooManyRequests: too many registrations and requests, or too many for this address.
        """
        await self.count_registration(caller)
        await self._count(self._lost_links, hashlib.sha256(address.encode()).hexdigest())

    async def count_request(self, caller: str, cost: int = 1) -> None:
        """Count any request, or one that is worth several.

        Raises:
            TooManyRequests: too many requests.
        """
        await self._count(self._default, caller, cost)

    @asynccontextmanager
    async def guard_login(self, account: str, network: str) -> AsyncIterator[None]:
        """Guard one sign-in attempt: the block checks the password, and raises if it is wrong.

        An attempt is counted first; if it cannot be counted, the password is not checked. A success clears the count of
        the account, so attempts for one account from one network run one after another: many concurrent successes stay
        below the limit. An attempt that the network's limit refuses does not count for the account.

        Raises:
            TooManyRequests: too many attempts from this network, for this account or for all accounts.
            RateLimitsUnavailable: attempts cannot be counted.
        """
        if not self._login.items:
            yield
            return
        key = (account, network)
        turn = self._login_turns.setdefault(key, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                await self._count_login(account, network)
                yield
                await self._clear_logins(account, network)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._login_turns[key]

    async def _count_login(self, account: str, network: str) -> None:
        try:
            async with self._breaker.guard():
                for item, *key in self._login_counters(account, network):
                    if not await self._login.limiter.hit(item, *key):
                        await self._refuse(self._login, item, *key)
        except StorageError as error:
            self._storage_failed(error)
            raise RateLimitsUnavailable from error

    async def _clear_logins(self, account: str, network: str) -> None:
        try:
            async with self._breaker.guard():
                for item in self._login.items:
                    await self._storage.clear(item.key_for("login", account, network))
        except StorageError as error:  # the counts expire with their window
            self._storage_failed(error)

    def _login_counters(self, account: str, network: str) -> Iterator[tuple[RateLimitItem, *tuple[str, ...]]]:
        # The network first: once it is over its limit, invented accounts add no counters.
        for item in self._login.items:
            yield type(item)(item.amount * ACCOUNTS_PER_ADDRESS, item.multiples), "login-address", network
        for item in self._login.items:
            yield item, "login", account, network

    async def _count(self, limit: _Limit, caller: str, cost: int = 1) -> None:
        if not limit.items:  # no call to the storage, so no result for the breaker
            return
        try:
            async with self._breaker.guard():
                for item in limit.items:
                    if not await limit.limiter.hit(item, limit.name, caller, cost=cost):
                        await self._refuse(limit, item, limit.name, caller)
                    if self._counts is not None:
                        limit.note_left(item, *_left(self._counts, item, limit.name, caller))
        except StorageError as error:
            self._storage_failed(error)

    async def _refuse(self, limit: _Limit, item: RateLimitItem, *identifiers: str) -> None:
        RATE_LIMIT_REFUSALS.labels(limit.name).inc()
        stats = await limit.limiter.get_window_stats(item, *identifiers)
        if item in limit.items:
            limit.note_left(item, 0, stats.reset_time)
        raise TooManyRequests(max(1, ceil(stats.reset_time - time.time())))

    def _storage_failed(self, error: StorageError) -> None:
        self._logger.warning("rate limits cannot be counted", reason=type(error.storage_error).__name__)


def _left(counts: CountsInMemory, item: RateLimitItem, *identifiers: str) -> tuple[int, float]:
    """Requests left, and when more are: as `get_window_stats`, which takes as long as counting the request."""
    now, expiry = time.time(), item.get_expiry()
    previous, current = (
        counts.storage.get(key, 0) for key in counts.sliding_window_keys(item.key_for(*identifiers), expiry, now)
    )
    window_ends_in = expiry - now % expiry
    return max(0, item.amount - int(previous * window_ends_in / expiry + current)), now + window_ends_in


def _storage(url: str) -> Storage:
    if not url:
        return CountsInMemory()
    storage = storage_from_string(
        f"async+{url}", wrap_exceptions=True, implementation="redispy", connection_pool=_redis_connections(url)
    )
    return cast("Storage", storage)


def _redis_connections(url: str) -> Any:  # noqa: ANN401 - known only with the optional import
    """A pool in which requests wait up to STORAGE_TIMEOUT for a free connection."""
    from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 - takes 60 ms, and few need it

    return BlockingConnectionPool.from_url(
        url.replace("redis+unix", "unix"),
        max_connections=MAX_STORAGE_CONNECTIONS,
        timeout=STORAGE_TIMEOUT,
        socket_timeout=STORAGE_TIMEOUT,
        socket_connect_timeout=STORAGE_TIMEOUT,
    )


async def redis_responds(url: str) -> bool:
    """Whether Redis can be used as a storage."""
    storage = _storage(url)
    is_available = await storage.check()
    await cast("Any", storage).bridge.get_connection().aclose(close_connection_pool=True)
    return is_available


class _Breaker:
    """A circuit breaker: only one request at a time waits for a hanging storage."""

    def __init__(self) -> None:
        self._probe_at: float | None = None  # None unless it hangs

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Call the storage within STORAGE_TIMEOUT, or not at all.

        Raises:
            StorageError: the storage does not respond in time, failed to recently, or sends an invalid reply.
        """
        started = time.monotonic()
        if self._probe_at is not None:
            if started < self._probe_at:
                raise StorageError(TimeoutError())
            self._probe_at = started + PROBE_SECONDS  # this request is the probe
        try:
            async with asyncio.timeout(STORAGE_TIMEOUT):
                yield
        except TooManyRequests:
            self._probe_at = None
            raise
        except TimeoutError as error:
            RATE_LIMIT_STORAGE_ERRORS.inc()
            self._probe_at = time.monotonic() + PROBE_SECONDS
            raise StorageError(error) from error
        except INVALID_REPLY as error:
            RATE_LIMIT_STORAGE_ERRORS.inc()
            self._probe_at = None
            raise StorageError(error) from error
        except StorageError:
            RATE_LIMIT_STORAGE_ERRORS.inc()
            # A storage that fails immediately delays no request, so it is called again.
            took = time.monotonic() - started
            self._probe_at = time.monotonic() + PROBE_SECONDS if took > STORAGE_TIMEOUT / 2 else None
            raise
        self._probe_at = None


class _Turn:
    """Serialises the sign-in attempts for one account from one network."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
