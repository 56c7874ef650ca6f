"""Responses that violate HTTP, JSON or the contract: each call ends in time, and the next approval succeeds."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from uuid import uuid4

import pytest

from provider_registration.billing import client as module
from provider_registration.billing.errors import BillingNameTaken, BillingRefused, BillingUncertain, BillingUnusable
from provider_registration.billing.models import BreakerState
from provider_registration.billing.protection import FAILURES_TO_OPEN
from provider_registration.settings import Settings
from tests.billing_client import billing_at
from tests.odd_billing import NAME, NO_ANSWER, REFUSED, TAKEN, UNUSABLE, USABLE, answer, answering

HURRIED = {"request_seconds": 0.3, "deadline": 2.0}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.01)


async def ask(parts):
    """Create a provider; return its id or the client's error, within the time limit."""
    async with answering(*parts) as url, billing_at(url, **HURRIED) as billing:
        return await asyncio.wait_for(billing.create_provider(NAME, uuid4()), 20)


@pytest.mark.parametrize("parts", UNUSABLE.values(), ids=UNUSABLE)
async def test_what_cannot_be_used_is_said_to_be_by_the_deadline(parts):
    with pytest.raises(BillingUnusable):
        await ask(parts)


@pytest.mark.parametrize("parts", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_missing_responses_are_uncertain_by_the_deadline(parts):
    with pytest.raises(BillingUncertain) as caught:
        await ask(parts)

    assert not isinstance(caught.value, BillingUnusable)


@pytest.mark.parametrize("parts", REFUSED.values(), ids=REFUSED)
async def test_a_no_is_a_no_whatever_its_body(parts):
    with pytest.raises(BillingRefused):
        await ask(parts)


@pytest.mark.parametrize("parts", TAKEN.values(), ids=TAKEN)
async def test_a_taken_name_is_known_by_its_status(parts):
    with pytest.raises(BillingNameTaken):
        await ask(parts)


@pytest.mark.parametrize("parts", USABLE.values(), ids=USABLE)
async def test_a_provider_is_a_provider_however_it_is_sent(parts):
    assert await ask(parts) == 7


@pytest.mark.parametrize("parts", UNUSABLE.values(), ids=UNUSABLE)
async def test_nonsense_opens_no_breaker(parts):
    async with answering(*parts) as url, billing_at(url, request_seconds=3, deadline=3, max_tries=1) as billing:
        calls = (billing.create_provider(NAME, uuid4()) for _ in range(FAILURES_TO_OPEN))
        ends = await asyncio.gather(*calls, return_exceptions=True)

        assert {type(end) for end in ends} == {BillingUnusable}
        assert billing.breaker.state is BreakerState.CLOSED


async def test_one_request_that_billing_does_not_answer_pauses_no_other():
    key = uuid4()
    async with answering(*NO_ANSWER["nothing at all"]) as url, billing_at(url, **HURRIED) as billing:
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(BillingUncertain):
                await billing.create_provider(NAME, key)
        assert billing.breaker.state is BreakerState.CLOSED

        for _ in range(FAILURES_TO_OPEN - 1):
            with pytest.raises(BillingUncertain):
                await billing.create_provider(NAME, uuid4())
        assert billing.breaker.state is BreakerState.OPEN


@pytest.mark.asvs("API10")
async def test_an_encoded_response_is_not_decoded():
    bomb = gzip.compress(gzip.compress(bytes(64 * 2**20)))
    sent = answer("201 Created", bomb, "Content-Encoding: gzip, gzip")
    tracemalloc.start()
    try:
        with pytest.raises(BillingUnusable):
            await ask((sent,))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 16 * 2**20


def test_all_tries_of_an_approval_end_within_two_minutes():
    assert Settings.model_fields["billing_deadline_seconds"].default < 120
