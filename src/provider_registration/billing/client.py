"""The client of the billing service: `POST /provider`, retried where that can help."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
)
from tenacity.stop import stop_base

from provider_registration.billing.connections import Around, Connections
from provider_registration.billing.errors import (
    BillingCircuitOpen,
    BillingError,
    BillingNameTaken,
    BillingNotSent,
    BillingRefused,
    BillingUncertain,
    BillingUnusable,
)
from provider_registration.billing.protection import CircuitBreaker, RetryBudget
from provider_registration.failpoints import reach
from provider_registration.observability.logs import request_id_var
from provider_registration.observability.metrics import BILLING_CALL_SECONDS, BILLING_CALLS

FIRST_WAIT_SECONDS = 0.5  # then 1 and 2
JITTER = 0.25  # up to this share is added to each wait, so that callers do not come back in step
RANDOM = secrets.SystemRandom()
MAX_ANSWER_BYTES = 64 * 1024
MAX_CONNECTIONS = 16

Send = Callable[[dict[str, str], dict[str, str]], AbstractAsyncContextManager[httpx.Response]]
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class BillingOptions:
    """How patient the client is. Times are in seconds.

    `deadline` bounds all tries and waits of one call together. Without `retry_ambiguous`, a try that may have
    reached billing is the last one: for a billing service that neither honours keys nor guards names atomically.
    """

    connect_timeout: float = 2.0
    timeout: float = 5.0
    max_tries: int = 4
    deadline: float = 20.0
    retry_ambiguous: bool = True


class Provider(BaseModel):
    """Billing's answer: the provider it made. Fields we do not know are ignored."""

    model_config = ConfigDict(strict=True)

    id: int = Field(ge=1, le=2**31 - 1)
    name: str


class _Retryable(Exception):
    """A try that may be made again; a signal for tenacity, never seen outside."""

    def __init__(self, error: BillingError, retry_after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class BillingClient:
    """One client for the life of the process; building one takes 20 ms."""

    def __init__(self, base_url: str, options: BillingOptions, *, around: Around | None = None) -> None:
        """`around` may put something around what sends the requests."""
        self._connections = Connections(MAX_CONNECTIONS, around=around)
        self._url = httpx.URL(f"{base_url}/provider")
        timeout = httpx.Timeout(options.timeout, connect=options.connect_timeout)
        self._extensions = {"timeout": timeout.as_dict()}
        self.options = options
        self.breaker = CircuitBreaker()
        self._budget = RetryBudget()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connections.aclose()

    async def create_provider(self, name: str, idempotency_key: UUID, *, maybe_sent: bool = False) -> int:
        """Id of the provider `name`, made by this call or by an earlier one with the same key.

        `maybe_sent` says that an earlier call with this key may have reached billing.

        Raises:
            BillingNotSent, BillingRefused: no provider was made.
            BillingNameTaken: billing has another company's provider of this name, and made none for us.
            BillingUncertain: a provider of ours may exist; `__cause__` is what billing did last.
            BillingUnusable: the same, and asking again later will not tell more.
        """
        call = _Call(self._send, self.breaker, name, idempotency_key)
        self._budget.earn()
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.options.deadline):
                try:
                    return await call.attempt()  # nearly always the only one: without the machinery of retries
                except _Retryable as first:
                    return await self._retry(call, first, deadline=self.options.deadline - time.monotonic() + started)
        except _Retryable as last:
            error = last.error
        except TimeoutError:
            call.maybe_sent = True
            if call.is_answered:
                error = BillingUnusable(f"billing's answer had no end within {self.options.deadline:.0f} s")
            else:
                error = BillingUncertain(f"billing gave no answer within {self.options.deadline:.0f} s")
        except BillingError as final:
            error = final
        if (call.maybe_sent or maybe_sent) and not isinstance(error, BillingUncertain):
            raise BillingUncertain(str(error)) from error
        raise error

    @asynccontextmanager
    async def _send(self, body: dict[str, str], headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        request = httpx.Request("POST", self._url, json=body, headers=headers, extensions=self._extensions)
        async with self._connections.borrow(self.options.timeout) as transport:
            response = await transport.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()

    async def _retry(self, call: _Call, first: _Retryable | None, *, deadline: float) -> int:
        """Go on after the first try; `deadline` is what is left of it."""

        async def attempt() -> int:
            nonlocal first
            if first is not None:
                error, first = first, None
                raise error
            return await call.attempt()

        retrying = AsyncRetrying(
            stop=stop_any(
                stop_after_attempt(self.options.max_tries),
                stop_before_delay(deadline),
                _StopWhen(lambda: call.maybe_sent and not self.options.retry_ambiguous),
                _StopWhen(lambda: not self._budget.spend()),
            ),
            wait=_wait,
            retry=retry_if_exception_type(_Retryable),
            reraise=True,
        )
        return await retrying(attempt)


class _Call:
    """The tries of one call; remembers whether any of them may have reached billing."""

    def __init__(self, send: Send, breaker: CircuitBreaker, name: str, key: UUID) -> None:
        self._send = send
        self._breaker = breaker
        self._name = name
        self._key = key
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Idempotency-Key": str(key),
        }
        if request_id := request_id_var.get():
            self._headers["X-Request-ID"] = request_id
        self.maybe_sent = False
        self.is_answered = False  # with a head at least, in the last try
        self._started = 0.0

    async def attempt(self) -> int:
        """One try: the provider's id, `_Retryable` when another try may help, else a BillingError."""
        if not self._breaker.admit():
            BILLING_CALLS.labels("circuit_open").inc()
            raise BillingCircuitOpen(self._breaker.retry_after)
        await reach("billing.before-send")
        self._started = time.monotonic()
        self.is_answered = False
        try:
            status, headers, body = await self._post()
        except NOT_SENT as error:
            self._count("not_sent", reachable=False)
            raise _Retryable(BillingNotSent(f"billing cannot be reached ({type(error).__name__})")) from None
        except httpx.HTTPError as error:
            raise self._failed(error) from None
        except asyncio.CancelledError:
            self._count("uncertain", reachable=self.is_answered)
            raise
        await reach("billing.after-answer")
        if status == httpx.codes.CREATED:
            return self._read(headers, body)
        if status == httpx.codes.CONFLICT:
            self._count("name_taken", reachable=True)
            raise BillingNameTaken
        if httpx.codes.is_client_error(status):
            self._count("refused", reachable=True)
            raise BillingRefused(status)
        if not httpx.codes.is_server_error(status):
            raise self._unusable(f"billing answered with status {status}")
        raise self._uncertain(f"billing answered with status {status}", _retry_after(headers))

    async def _post(self) -> tuple[int, httpx.Headers, bytes | None]:
        """Status, headers and body of the answer; None for a body that is too long."""
        async with self._send({"name": self._name}, self._headers) as response:
            self.is_answered = True
            body = bytearray()
            async for chunk in response.aiter_raw():  # never decoded: 5 KB can become 3 GB
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return response.status_code, response.headers, None
            return response.status_code, response.headers, bytes(body)

    def _read(self, headers: httpx.Headers, body: bytes | None) -> int:
        if headers.get("Content-Encoding", "").lower() not in ("", "identity"):
            raise self._unusable("billing's answer was encoded, which it was asked not to do")
        if body is None:
            raise self._unusable(f"billing's answer was longer than {MAX_ANSWER_BYTES} bytes")
        try:
            provider = Provider.model_validate_json(body)
        except ValidationError:
            raise self._unusable("billing answered 201 without a usable provider") from None
        if provider.name != self._name:
            raise self._unusable("billing answered 201 with another provider's name")
        self._count("created", reachable=True)
        return provider.id

    def _failed(self, error: httpx.HTTPError) -> _Retryable:
        if isinstance(error, httpx.RemoteProtocolError) and (self.is_answered or _is_nonsense(error)):
            return self._unusable("billing's answer is no HTTP, or was cut")
        return self._uncertain(f"billing gave no answer ({type(error).__name__})")

    def _uncertain(self, reason: str, retry_after: float = 0.0) -> _Retryable:
        self.maybe_sent = True
        self._count("uncertain", reachable=False)
        return _Retryable(BillingUncertain(reason), retry_after)

    def _unusable(self, reason: str) -> _Retryable:
        self.maybe_sent = True
        self._count("uncertain", reachable=True)  # an answer is an answer: the breaker is for billing that gives none
        return _Retryable(BillingUnusable(reason))

    def _count(self, outcome: str, *, reachable: bool) -> None:
        BILLING_CALLS.labels(outcome).inc()
        BILLING_CALL_SECONDS.labels(outcome).observe(time.monotonic() - self._started)
        if reachable:
            self._breaker.succeeded()
        else:
            self._breaker.failed(None if outcome == "not_sent" else self._key)


class _StopWhen(stop_base):
    """Stop retrying when a condition holds that does not depend on tenacity's count and clock."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._condition()


def _is_nonsense(error: httpx.RemoteProtocolError) -> bool:
    """Whether the parser, h11, refused what came; else the connection was closed before a head was complete."""
    behind = error.__cause__.__context__ if error.__cause__ else None  # httpcore's error, and what that is about
    return type(behind).__module__.partition(".")[0] == "h11"


def _wait(state: RetryCallState) -> float:
    backoff: float = FIRST_WAIT_SECONDS * 2 ** (state.attempt_number - 1)
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, _Retryable) else 0.0
    return max(backoff, asked) * (1 + RANDOM.uniform(0, JITTER))


def _retry_after(headers: httpx.Headers) -> float:
    """Seconds that `Retry-After` asks for, 0 when it says nothing usable (RFC 9110 section 10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):  # the latter for a year or an offset that no C integer holds
        return 0.0
