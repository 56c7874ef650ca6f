"""Counts of rate limits in memory: what expires is forgotten, and many callers do not slow each other down."""

from __future__ import annotations

import asyncio

import pytest
from limits import RateLimitItemPerMinute
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from provider_registration.web import counts_in_memory as module
from provider_registration.web.counts_in_memory import CountsInMemory

ITEM = RateLimitItemPerMinute(5)
STRATEGIES = {"registrations": SlidingWindowCounterRateLimiter, "sign-ins": MovingWindowRateLimiter}


class Clock:
    """Replaces `time.time` here and in the library."""

    def __init__(self):
        self.now = 1_800_000_030.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    return clock


@pytest.fixture
def looks(monkeypatch):
    """How often all counts were looked at."""
    expire, looks = CountsInMemory._expire, []

    async def counted(self):
        looks.append(None)
        await expire(self)

    monkeypatch.setattr(CountsInMemory, "_expire", counted)
    return looks


def kept(counts):
    return {*counts.storage, *counts.expirations, *counts.events, *counts.locks}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
async def test_requests_do_not_each_look_at_all_counts(clock, looks, strategy):
    counts = CountsInMemory()
    for number in range(100):
        assert await strategy(counts).hit(ITEM, str(number))
        await asyncio.sleep(0)

    assert len(looks) == 1


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
async def test_what_has_expired_is_forgotten_and_nothing_else(clock, monkeypatch, strategy):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    counts = CountsInMemory()
    limiter = strategy(counts)
    for number in range(7):
        await limiter.hit(ITEM, f"old {number}")
    clock.now += 130  # longer than both windows that count
    counts._next_look = 0.0
    for _ in range(5):
        assert await limiter.hit(ITEM, "new")
    await counts.timer

    assert kept(counts)
    assert not [key for key in kept(counts) if "old" in key]
    assert not await limiter.hit(ITEM, "new")


async def test_of_a_callers_sign_ins_only_the_recent_are_kept(clock):
    counts = CountsInMemory()
    limiter = MovingWindowRateLimiter(counts)
    await limiter.hit(ITEM, "a")
    clock.now += 40
    await limiter.hit(ITEM, "a")
    clock.now += 30
    counts._next_look = 0.0
    await limiter.hit(ITEM, "b")
    await counts.timer

    assert [len(events) for events in counts.events.values()] == [1, 1]
