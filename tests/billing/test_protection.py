"""The retry budget and the circuit breaker, with a controlled clock."""

from __future__ import annotations

import pytest

from provider_registration.billing import protection
from provider_registration.billing.models import BreakerState
from provider_registration.billing.protection import CircuitBreaker, RetryBudget
from provider_registration.observability.metrics import BILLING_BREAKER


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(clock)


def fail(breaker, times=protection.FAILURES_TO_OPEN):
    for _ in range(times):
        assert breaker.admit()
        breaker.failed()


def test_a_closed_breaker_lets_calls_through(breaker):
    fail(breaker, 4)

    assert breaker.state is BreakerState.CLOSED
    assert breaker.admit()
    assert breaker.retry_after == 0


def test_failures_in_a_row_open_it(breaker):
    fail(breaker, 5)

    assert breaker.state is BreakerState.OPEN
    assert not breaker.admit()
    assert breaker.retry_after == 5


def test_billing_responded_recently_within_a_minute_unless_the_breaker_is_open(breaker, clock):
    assert not breaker.responded_recently
    breaker.succeeded()
    clock.now += 60
    assert breaker.responded_recently
    fail(breaker)
    assert not breaker.responded_recently
    breaker.succeeded()
    clock.now += 61
    assert not breaker.responded_recently


def test_a_success_between_failures_keeps_it_closed(breaker):
    fail(breaker, protection.FAILURES_TO_OPEN - 1)
    breaker.succeeded()
    fail(breaker, protection.FAILURES_TO_OPEN - 1)

    assert breaker.state is BreakerState.CLOSED


def test_half_open_lets_one_probe_through(breaker, clock):
    fail(breaker)
    clock.now += protection.OPEN_SECONDS

    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.retry_after == 0
    assert [breaker.admit() for _ in range(3)] == [True, False, False]


def test_a_probe_that_succeeds_closes_it(breaker, clock):
    fail(breaker)
    clock.now += protection.OPEN_SECONDS
    breaker.admit()
    breaker.succeeded()

    assert breaker.state is BreakerState.CLOSED
    assert breaker.admit()


def test_a_probe_that_fails_opens_it_again(breaker, clock):
    fail(breaker)
    clock.now += protection.OPEN_SECONDS
    breaker.admit()
    breaker.failed()

    assert breaker.state is BreakerState.OPEN
    clock.now += protection.OPEN_SECONDS
    assert breaker.admit()


def test_a_probe_that_vanishes_is_followed_by_another(breaker, clock):
    fail(breaker)
    clock.now += protection.OPEN_SECONDS
    breaker.admit()
    clock.now += protection.PROBE_SECONDS

    assert breaker.admit()


def test_a_dead_service_costs_a_tenth_of_a_retry_a_call_once_the_budget_is_spent():
    budget = RetryBudget()
    while budget.spend():
        pass

    retries = 0
    for _ in range(1000):
        budget.earn()
        retries += budget.spend()

    assert retries == pytest.approx(100, abs=1)


def test_the_budget_does_not_grow_without_end():
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()

    assert sum(budget.spend() for _ in range(10_000)) == protection.BUDGET_CAPACITY


def shown():
    """The state that the metric shows."""
    samples = [sample for metric in BILLING_BREAKER.collect() for sample in metric.samples]
    [state] = [sample.labels["provider_service_billing_breaker"] for sample in samples if sample.value]
    return state


def test_the_metric_shows_half_open_without_a_call(breaker, clock):
    fail(breaker)
    assert shown() == "open"

    clock.now += protection.OPEN_SECONDS
    breaker.update_metric()

    assert shown() == "half_open"


def test_the_metric_shows_open_while_a_probe_is_pending(breaker, clock):
    fail(breaker)
    clock.now += protection.OPEN_SECONDS
    breaker.update_metric()
    breaker.admit()
    assert shown() == "open"

    breaker.succeeded()

    assert shown() == "closed"
