"""Rate limits: how often one caller may ask. Counted in memory or, for many processes, in Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, cast

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from provider_registration.errors import LimitExceededError, UnavailableError
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import RATE_LIMIT_REFUSALS, RATE_LIMIT_STORAGE_ERRORS

logger = logging.getLogger(__name__)

STORAGE_TIMEOUT = 0.5  # seconds
MAX_STORAGE_CONNECTIONS = 50  # of a process; each answers some 5,000 requests a second. The others wait for one
PROBE_SECONDS = 5.0  # between two requests that ask a storage that hangs; the others do without it at once
# So many times the tries at one account are allowed at all accounts together, from one address; good ones count too.
ACCOUNTS_AN_ADDRESS = 10
NONSENSE = (ArithmeticError, LookupError, TypeError, ValueError)  # raised for a reply that Redis never gives


class TooManyRequests(LimitExceededError):
    """The caller asks too often."""

    code = "too-many-requests"
    title = "Too many requests"

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"Too many requests; try again in {self.retry_after} s."


class RateLimitsUnavailable(UnavailableError):
    """The limit cannot be counted, and without it the request is not safe to serve."""

    code = "rate-limits-unavailable"
    title = "Rate limits unavailable"
    retry_after = 5

    def __str__(self) -> str:
        return "Log-ins are not possible just now, since they cannot be counted; try again in a moment."


@dataclass(frozen=True, slots=True)
class _Limit:
    name: str
    items: list[RateLimitItem]
    limiter: RateLimiter


class RateLimits:
    """The three limits of the service, each in the notation of the `limits` library: `5/minute; 100/day`.

    An empty limit is off. When the storage fails, `login` refuses and the others let everything pass.
    """

    def __init__(self, *, storage_url: str, login: str, registration: str, default: str) -> None:
        self._logger = RateLimitedLogger(logger)
        self._storage = storage = _storage(storage_url)
        moving, counting = MovingWindowRateLimiter(storage), SlidingWindowCounterRateLimiter(storage)
        self._login = _Limit("login", parse_many(login) if login else [], moving)
        self._registration = _Limit("registration", parse_many(registration) if registration else [], counting)
        self._default = _Limit("default", parse_many(default) if default else [], counting)
        self._breaker = _Breaker()
        self._logging_in: dict[tuple[str, str], _Turn] = {}  # as many as go on; RateLimitMiddleware bounds them

    async def count_registration(self, caller: str) -> None:
        """Count a registration.

        Raises:
            TooManyRequests: the caller has registered too many.
        """
        await self._count(self._registration, caller)

    async def count_request(self, caller: str) -> None:
        """Count any request.

        Raises:
            TooManyRequests: the caller has asked too often.
        """
        await self._count(self._default, caller)

    @asynccontextmanager
    async def guard_login(self, account: str, address: str) -> AsyncIterator[None]:
        """One try to log in: the block looks at the password, and raises when it is wrong.

        A try is counted first; if it cannot be counted, the password is not checked. A good one forgives those of the
        account before it, so those of one account from one address wait for one another: many good ones at once are not
        too many. One that the address's limit refuses does not count for the account.

        Raises:
            TooManyRequests: too many tries of this account from this address, or of any account from it.
            RateLimitsUnavailable: they cannot be counted.
        """
        if not self._login.items:
            yield
            return
        key = (account, address)
        turn = self._logging_in.setdefault(key, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                await self._count_login(account, address)
                yield
                await self._forgive_logins(account, address)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._logging_in[key]

    async def _count_login(self, account: str, address: str) -> None:
        try:
            async with self._breaker.guard():
                for item, *key in self._login_counters(account, address):
                    if not await self._login.limiter.hit(item, *key):
                        await self._refuse(self._login, item, *key)
        except StorageError as error:
            self._storage_failed(error)
            raise RateLimitsUnavailable from error

    async def _forgive_logins(self, account: str, address: str) -> None:
        try:
            async with self._breaker.guard():
                for item in self._login.items:
                    key = item.key_for("login", account, address)
                    if not isinstance(self._storage, MemoryStorage):
                        await self._storage.clear(key)
                    elif key in self._storage.events:
                        self._storage.events[key] = []  # its own `clear` takes the key away from under its expiry
        except StorageError as error:  # they end with their window as well
            self._storage_failed(error)

    def _login_counters(self, account: str, address: str) -> Iterator[tuple[RateLimitItem, *tuple[str, ...]]]:
        # The address first: once it is over its limit, made-up accounts add no counters.
        for item in self._login.items:
            yield type(item)(item.amount * ACCOUNTS_AN_ADDRESS, item.multiples), "login-address", address
        for item in self._login.items:
            yield item, "login", account, address

    async def _count(self, limit: _Limit, caller: str) -> None:
        if not limit.items:  # nothing is asked that could show whether the storage answers
            return
        try:
            async with self._breaker.guard():
                for item in limit.items:
                    if not await limit.limiter.hit(item, limit.name, caller):
                        await self._refuse(limit, item, limit.name, caller)
        except StorageError as error:
            self._storage_failed(error)

    async def _refuse(self, limit: _Limit, item: RateLimitItem, *identifiers: str) -> None:
        RATE_LIMIT_REFUSALS.labels(limit.name).inc()
        stats = await limit.limiter.get_window_stats(item, *identifiers)
        raise TooManyRequests(max(1, ceil(stats.reset_time - time.time())))

    def _storage_failed(self, error: StorageError) -> None:
        self._logger.warning("rate limits cannot be counted", reason=type(error.storage_error).__name__)


def _storage(url: str) -> Storage:
    # A storage class takes the options that it knows; these are for Redis alone.
    options: dict[str, Any] = {}
    if "redis" in url:
        options = {"implementation": "redispy", "connection_pool": _redis_connections(url)}
    return cast("Storage", storage_from_string(f"async+{url or 'memory://'}", wrap_exceptions=True, **options))


def _redis_connections(url: str) -> object:
    """A pool in which who finds no free connection waits, as long as for an answer of Redis."""
    from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 - it takes 60 ms, and few need it

    return BlockingConnectionPool.from_url(
        url.replace("redis+unix", "unix"),
        max_connections=MAX_STORAGE_CONNECTIONS,
        timeout=STORAGE_TIMEOUT,
        socket_timeout=STORAGE_TIMEOUT,
        socket_connect_timeout=STORAGE_TIMEOUT,
    )


async def redis_answers(url: str) -> bool:
    """Whether Redis can be used as a storage."""
    storage = _storage(url)
    is_there = await storage.check()
    await cast("Any", storage).bridge.get_connection().aclose(close_connection_pool=True)
    return is_there


class _Breaker:
    """Keeps requests from waiting for a storage that hangs, one after another."""

    def __init__(self) -> None:
        self._probe_at: float | None = None  # while it hangs

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Ask the storage within STORAGE_TIMEOUT, or not at all.

        Raises:
            StorageError: it does not answer in time, or did not lately, or answers with what is no answer.
        """
        started = time.monotonic()
        if self._probe_at is not None:
            if started < self._probe_at:
                raise StorageError(TimeoutError())
            self._probe_at = started + PROBE_SECONDS  # this one asks
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
        except NONSENSE as error:
            RATE_LIMIT_STORAGE_ERRORS.inc()
            self._probe_at = None
            raise StorageError(error) from error
        except StorageError:
            RATE_LIMIT_STORAGE_ERRORS.inc()
            # One that refuses at once keeps nobody waiting, and is asked again.
            took = time.monotonic() - started
            self._probe_at = time.monotonic() + PROBE_SECONDS if took > STORAGE_TIMEOUT / 2 else None
            raise
        self._probe_at = None


class _Turn:
    """Whose turn it is to try an account's password from an address."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
