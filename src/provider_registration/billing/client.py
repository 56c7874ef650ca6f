"""The billing client of approvals: `create_provider` with retries, for any billing system."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from functools import cache
from uuid import UUID

from prometheus_client import Counter, Histogram
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
)

from provider_registration.billing.errors import (
    BillingCircuitOpen,
    BillingError,
    BillingNotSent,
    BillingUncertain,
    BillingUnusable,
)
from provider_registration.billing.port import MAX_PROVIDER_ID, BillingSystem
from provider_registration.billing.protection import CircuitBreaker, RetryBudget
from provider_registration.observability.metrics import BILLING_CALL_SECONDS, BILLING_CALLS

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.5  # then 1, 2, and so on
JITTER = 0.25  # up to this share is added to each wait, so that callers do not retry at the same time
RANDOM = secrets.SystemRandom()
RETRIED = (BillingNotSent, BillingUncertain)


class BillingClient:
    """Retries, a deadline and a circuit breaker around a billing system; one for the life of the process."""

    def __init__(self, system: BillingSystem, *, max_tries: int, deadline: float, retry_ambiguous: bool) -> None:
        """`deadline`, in seconds, bounds all attempts and waits of one call together.

        Without `retry_ambiguous`, an attempt that may have reached billing is the last: for a billing system that
        neither honours idempotency keys nor enforces unique names atomically.
        """
        self._system = system
        self._max_tries = max_tries
        self.deadline = deadline
        self.retry_ambiguous = retry_ambiguous
        self.breaker = CircuitBreaker()
        self._budget = RetryBudget()

    async def aclose(self) -> None:
        """Close the connections to billing."""
        await self._system.aclose()

    async def create_provider(self, name: str, idempotency_key: UUID, *, maybe_sent: bool = False) -> int:
        """The ID of the provider `name`, created by this call or by an earlier one with the same key.

        `maybe_sent` says that an earlier call with this key may have reached billing.

        Raises:
            BillingNotSent, BillingRefused: no provider was created.
            BillingNameTaken: billing has another company's provider with this name, and created none for us.
            BillingUncertain: our provider may exist; `__cause__` is the last error.
            BillingUnusable: the same, and retrying later is not expected to help.
        """
        call = _Call(self._system, self.breaker, name, idempotency_key)
        self._budget.earn()
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline):
                try:
                    return await call.attempt()  # without tenacity, which adds 95 µs of CPU to one attempt
                except RETRIED as first:
                    return await self._retry(call, first, deadline=self.deadline - time.monotonic() + started)
        except TimeoutError:
            if call.has_responded:
                error: BillingError = BillingUnusable(f"billing's response was incomplete after {self.deadline:.0f} s")
            else:
                error = BillingUncertain(f"billing did not respond within {self.deadline:.0f} s")
        except BillingError as last:
            error = last
        if (call.maybe_sent or maybe_sent) and not isinstance(error, BillingUncertain):
            raise BillingUncertain(str(error)) from error
        raise error

    async def _retry(self, call: _Call, first: BillingError | None, *, deadline: float) -> int:
        """Retry after a failed first attempt, within the remaining `deadline` seconds."""
        limits = stop_any(stop_after_attempt(self._max_tries), stop_before_delay(deadline))

        async def attempt() -> int:
            nonlocal first
            if first is not None:
                error, first = first, None
                raise error
            return await call.attempt()

        def gives_up(state: RetryCallState) -> bool:
            is_unsafe = call.maybe_sent and not self.retry_ambiguous
            return limits(state) or is_unsafe or not self._budget.spend()

        is_retried = retry_if_exception_type(RETRIED) & retry_if_not_exception_type(BillingCircuitOpen)
        return await AsyncRetrying(stop=gives_up, wait=_wait, retry=is_retried, reraise=True)(attempt)


class _Call:
    """The attempts of one call; remembers whether any of them may have reached billing."""

    def __init__(self, system: BillingSystem, breaker: CircuitBreaker, name: str, key: UUID) -> None:
        self._system = system
        self._breaker = breaker
        self._name = name
        self._key = key
        self.maybe_sent = False
        self.has_responded = False  # at least in part, in the last attempt
        self._started = 0.0

    async def attempt(self) -> int:
        """Make one attempt.

        Raises:
            BillingCircuitOpen: no request was sent. Other errors are those of the port.
        """
        if not self._breaker.admit():
            _counter(BillingCircuitOpen.outcome).inc()
            raise BillingCircuitOpen(self._breaker.retry_after, self._breaker.last_reason)
        self._started = time.monotonic()
        self.has_responded = False
        try:
            provider_id = await self._call_system()
        except BillingError as error:
            self.maybe_sent |= isinstance(error, BillingUncertain)
            self._count(error.outcome, reachable=error.is_response, reason=str(error))
            raise
        except asyncio.CancelledError:
            self._count("uncertain", reachable=self.has_responded)
            raise
        self._count("created", reachable=True)
        return provider_id

    async def _call_system(self) -> int:
        """Call the system; turn results and exceptions that the port does not allow into BillingErrors."""
        try:
            provider_id = await self._system.create_provider(self._name, self._key, responding=self._responding)
            is_usable = 1 <= provider_id <= MAX_PROVIDER_ID
        except BillingError:
            raise
        except Exception as error:
            logger.exception("the billing system raised an unexpected error", extra={"idempotency_key": str(self._key)})
            raise BillingUncertain(f"the call to billing failed unexpectedly ({type(error).__name__})") from error
        if not is_usable:
            raise BillingUnusable("billing returned an invalid provider ID")
        return provider_id

    def _responding(self) -> None:
        self.has_responded = True

    def _count(self, outcome: str, *, reachable: bool, reason: str = "no response before the call ended") -> None:
        _counter(outcome).inc()
        _histogram(outcome).observe(time.monotonic() - self._started)
        if reachable:
            self._breaker.succeeded()
        else:
            self._breaker.failed(None if outcome == BillingNotSent.outcome else self._key, reason=reason)


@cache
def _counter(outcome: str) -> Counter:
    """The counter of one series, cached because `labels` takes a lock each time."""
    return BILLING_CALLS.labels(outcome)


@cache
def _histogram(outcome: str) -> Histogram:
    return BILLING_CALL_SECONDS.labels(outcome)


def _wait(state: RetryCallState) -> float:
    backoff: float = FIRST_WAIT_SECONDS * 2 ** (state.attempt_number - 1)
    error = state.outcome.exception() if state.outcome else None
    requested = error.retry_after if isinstance(error, BillingError) else 0.0
    return max(backoff, requested) * (1 + RANDOM.uniform(0, JITTER))
