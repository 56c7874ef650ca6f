"""Limits the load on a failing billing system: a retry budget and a circuit breaker.

The circuit breakers on PyPI admit every caller when half-open; this one admits a single probe.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from provider_registration.billing.models import BreakerState
from provider_registration.observability.metrics import BILLING_BREAKER

FAILURES_TO_OPEN = 5  # in a row
OPEN_SECONDS = 5.0
RECENT_SECONDS = 60.0  # since the last response, for it to count as recent
PROBE_SECONDS = 30.0  # until another probe is allowed, if the last one has no result

BUDGET_CAPACITY = 20.0  # retries in a burst
BUDGET_SHARE = 0.1  # retries earned by each call


class RetryBudget:
    """Allows a burst of retries, then a share of the calls made: a token bucket, as in gRPC's retry throttling."""

    def __init__(self) -> None:
        self._tokens = BUDGET_CAPACITY

    def earn(self) -> None:
        """Count a new call."""
        self._tokens = min(BUDGET_CAPACITY, self._tokens + BUDGET_SHARE)

    def spend(self) -> bool:
        """Take one retry; False if the budget is used up."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class CircuitBreaker:
    """Opens after FAILURES_TO_OPEN failures in a row, and probes every OPEN_SECONDS."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._last_failed_call: object = None
        self.last_reason = ""  # why the last call without a response failed
        self._responded_at = float("-inf")
        self._closed = True
        self._next_probe = 0.0
        self.update_metric()

    @property
    def responded_recently(self) -> bool:
        """Whether billing has responded to this process within RECENT_SECONDS, and the breaker is closed."""
        return self._closed and self._clock() - self._responded_at <= RECENT_SECONDS

    @property
    def state(self) -> BreakerState:
        """The state now."""
        if self._closed:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._clock() >= self._next_probe else BreakerState.OPEN

    @property
    def half_open_seconds(self) -> float:
        """How long a probe has been allowed without one being sent; 0 unless the breaker is half-open."""
        return max(0.0, self._clock() - self._next_probe) if self.state is BreakerState.HALF_OPEN else 0.0

    @property
    def retry_after(self) -> float:
        """Seconds until the next call is allowed."""
        return 0.0 if self._closed else max(0.0, self._next_probe - self._clock())

    def admit(self) -> bool:
        """Whether a call is allowed. When half-open, the first is the probe; others are refused."""
        state = self.state
        if state is BreakerState.HALF_OPEN:
            self._next_probe = self._clock() + PROBE_SECONDS
            self.update_metric()
        return state is not BreakerState.OPEN

    def succeeded(self) -> None:
        """Count a response, usable or not; a refusal is a response too."""
        self._failures = 0
        self._last_failed_call = None
        self._responded_at = self._clock()
        if not self._closed:
            self._closed = True
            self.update_metric()

    def failed(self, call: object = None, *, reason: str = "no response") -> None:
        """Count a call without a response; repeated failures of the same `call`, one after the other, count once.

        If billing fails only this call, other calls need not be paused.
        """
        if call is None or call != self._last_failed_call:
            self._failures += 1
        self._last_failed_call = call
        self.last_reason = reason
        if not self._closed or self._failures >= FAILURES_TO_OPEN:
            self._closed = False
            self._next_probe = self._clock() + OPEN_SECONDS
        self.update_metric()

    def update_metric(self) -> None:
        """Set the metric. Call it periodically: the breaker becomes half-open as time passes."""
        now = self.state
        for each in BreakerState:
            BILLING_BREAKER.labels(each).set(each is now)
