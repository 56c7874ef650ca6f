"""The client of the billing service: `POST /provider`, retried where that can help."""

from __future__ import annotations

import asyncio
import random
import time
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
    stop_before_delay,
)

from provider_registration.billing.errors import (
    BillingError,
    BillingNameTaken,
    BillingNotSent,
    BillingRefused,
    BillingUncertain,
)
from provider_registration.logs import request_id_var

MAX_TRIES = 4
TOTAL_SECONDS = 20.0
FIRST_WAIT_SECONDS = 0.5  # then 1 and 2
JITTER = 0.25  # up to this share is added to each wait, so that callers do not come back in step
TIMEOUT = httpx.Timeout(5.0, connect=2.0)
LIMITS = httpx.Limits(max_connections=20, max_keepalive_connections=20, keepalive_expiry=30.0)

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Provider(BaseModel):
    """Billing's answer: the provider it made. Fields we do not know are ignored."""

    model_config = ConfigDict(strict=True)

    id: int = Field(ge=1, le=2**31 - 1)
    name: str


class _Retryable(Exception):
    """A try that may be made again."""

    def __init__(self, error: BillingError, retry_after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class BillingClient:
    """One client for the life of the process; building one takes 20 ms."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT, limits=LIMITS, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def create_provider(self, name: str, idempotency_key: UUID, *, maybe_sent_before: bool = False) -> int:
        """Id of the provider `name`, made by this call or by an earlier one with the same key.

        At most MAX_TRIES tries and TOTAL_SECONDS. `maybe_sent_before` says that an earlier call may have
        reached billing, which makes a taken name ambiguous.

        Raises:
            BillingNotSent, BillingRefused: no provider was made.
            BillingNameTaken: see there.
            BillingUncertain: one may have been made; repeat the key to find out.
        """
        call = _Call(self._http, name, idempotency_key, maybe_sent=maybe_sent_before)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(MAX_TRIES) | stop_before_delay(TOTAL_SECONDS),
            wait=_wait,
            retry=retry_if_exception_type(_Retryable),
            reraise=True,
        )
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                return await retrying(call.attempt)
        except _Retryable as last:
            raise call.outcome(last.error) from None
        except BillingError as final:
            raise call.outcome(final) from None
        except TimeoutError:
            raise call.outcome(BillingUncertain(f"billing gave no answer within {TOTAL_SECONDS:.0f} s")) from None


class _Call:
    """The tries of one call; remembers whether any of them may have reached billing."""

    def __init__(self, http: httpx.AsyncClient, name: str, key: UUID, *, maybe_sent: bool) -> None:
        self._http = http
        self._name = name
        self._headers = {"Idempotency-Key": str(key)}
        if request_id := request_id_var.get():
            self._headers["X-Request-ID"] = request_id
        self._maybe_sent = maybe_sent

    async def attempt(self) -> int:
        """One try: the provider's id, `_Retryable` when another try may help, else a BillingError."""
        try:
            response = await self._http.post("/provider", json={"name": self._name}, headers=self._headers)
        except NOT_SENT as error:
            raise _Retryable(BillingNotSent(f"billing cannot be reached ({type(error).__name__})")) from None
        except httpx.HTTPError as error:
            self._maybe_sent = True
            raise _Retryable(BillingUncertain(f"billing gave no answer ({type(error).__name__})")) from None
        if response.status_code == httpx.codes.CONFLICT:
            raise BillingNameTaken(maybe_ours=self._maybe_sent)
        if response.is_client_error:
            raise BillingRefused(response.status_code)
        if response.status_code != httpx.codes.CREATED:
            self._maybe_sent = True
            uncertain = BillingUncertain(f"billing answered with status {response.status_code}")
            raise _Retryable(uncertain, _retry_after(response))
        return self._read(response)

    def _read(self, response: httpx.Response) -> int:
        try:
            provider = Provider.model_validate_json(response.content)
        except ValidationError:
            self._maybe_sent = True
            raise _Retryable(BillingUncertain("billing answered 201 without a usable provider")) from None
        if provider.name != self._name:
            self._maybe_sent = True
            raise _Retryable(BillingUncertain("billing answered 201 with another provider's name"))
        return provider.id

    def outcome(self, last: BillingError) -> BillingError:
        """What the whole call amounts to: certain only if no try may have reached billing."""
        if self._maybe_sent and isinstance(last, BillingNotSent | BillingRefused):
            return BillingUncertain(str(last))
        return last


def _wait(state: RetryCallState) -> float:
    backoff: float = FIRST_WAIT_SECONDS * 2 ** (state.attempt_number - 1)
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, _Retryable) else 0.0
    return max(backoff, asked) * (1 + random.uniform(0, JITTER))  # noqa: S311 - jitter, not a secret


def _retry_after(response: httpx.Response) -> float:
    """Seconds that `Retry-After` asks for, 0 when it says nothing usable (RFC 9110 section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
