"""The billing client against a billing service on a loopback port: its retries, and how it interprets responses."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from uuid import uuid4

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from provider_registration.billing import client as module
from provider_registration.billing import protection
from provider_registration.billing.errors import (
    BillingCircuitOpen,
    BillingNameTaken,
    BillingNotSent,
    BillingRefused,
    BillingUncertain,
    BillingUnusable,
)
from provider_registration.local.background_server import serve_in_background
from provider_registration.local.sandbox import create_sandbox
from provider_registration.observability.logs import request_id_var
from provider_registration.observability.metrics import BILLING_CALLS as CALLS
from tests.billing_client import billing_at

HURRIED = {"request_seconds": 0.3, "deadline": 5.0}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def name():
    return f"Obsthof {uuid4().hex} in Köln"


@pytest.fixture
def key():
    return uuid4()


@pytest.fixture(scope="module")
async def sandbox(tmp_path_factory):
    """A client that controls the billing sandbox."""
    app = create_sandbox(tmp_path_factory.mktemp("billing") / "providers.sqlite3")
    async with serve_in_background(app) as url, httpx.AsyncClient(base_url=url) as control:
        yield control


@pytest.fixture
async def billing(sandbox):
    """The client under test, with the sandbox behind it."""
    await sandbox.put("/sandbox/faults", json={"mode": "none"})
    await sandbox.put("/sandbox/settings", json={"honour_idempotency_key": True})
    async with billing_at(str(sandbox.base_url)) as billing:
        yield billing


@pytest.fixture
async def hurried_billing(billing, sandbox):
    """The same, with short timeouts."""
    async with billing_at(str(sandbox.base_url), **HURRIED) as hurried_billing:
        yield hurried_billing


@pytest.fixture
def fail(sandbox):
    async def fail(mode, **how):
        (await sandbox.put("/sandbox/faults", json={"mode": mode, **how})).raise_for_status()

    return fail


@pytest.fixture
def requests(sandbox):
    """The requests that billing received for a name."""

    async def requests(name):
        return (await sandbox.get("/sandbox/requests", params={"name": name})).json()["requests"]

    return requests


class Script:
    """A billing service with prepared responses; it repeats the last one."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self._asked_at = []

    async def answer(self, request):
        self._asked_at.append(time.monotonic())
        status, body, headers = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if callable(body):
            return JSONResponse(body((await request.json())["name"]), status, headers)
        return Response(body, status, headers)

    @property
    def asked(self):
        """The number of requests."""
        return len(self._asked_at)

    @property
    def waits(self):
        """The seconds between successive requests."""
        return [later - earlier for earlier, later in pairwise(self._asked_at)]

    def serve(self, port):
        """Serve it at the given port."""
        return serve_in_background(Starlette(routes=[Route("/provider", self.answer, methods=["POST"])]), port)


@pytest.fixture(scope="module")
async def stage():
    """The base URL of a server where each script has its own path, and its scripts."""
    scripts = {}

    async def answer(request):
        return await scripts[request.path_params["script"]].answer(request)

    app = Starlette(routes=[Route("/{script}/provider", answer, methods=["POST"])])
    async with serve_in_background(app) as url:
        yield url, scripts


@pytest.fixture
def play(stage):
    """Creates a client of a billing service that follows a script."""
    url, scripts = stage

    @asynccontextmanager
    async def play(script, **options):
        path = uuid4().hex
        scripts[path] = script
        async with billing_at(f"{url}/{path}", **options) as billing:
            yield billing

    return play


def created(provider_id=7):
    return 201, lambda name: {"id": provider_id, "name": name}, {}


def failure(status, **headers):
    return status, b'{"detail": "no"}', {name.replace("_", "-"): value for name, value in headers.items()}


async def test_a_provider_is_made_under_the_name_the_key_and_the_request_id(billing, requests, name, key):
    token = request_id_var.set("approval-7")
    try:
        provider_id = await billing.create_provider(name, key)
    finally:
        request_id_var.reset(token)

    [request] = await requests(name)
    assert provider_id == request["provider_id"]
    assert (request["name"], request["key"], request["request_id"]) == (name, str(key), "approval-7")


async def test_without_a_request_no_request_id_is_sent(billing, requests, name, key):
    await billing.create_provider(name, key)

    [request] = await requests(name)
    assert request["request_id"] is None


async def test_the_same_key_gives_the_same_provider(billing, name, key):
    assert await billing.create_provider(name, key) == await billing.create_provider(name, key)


async def test_many_are_made_at_once(billing):
    names = [uuid4().hex for _ in range(50)]

    ids = await asyncio.gather(*(billing.create_provider(name, uuid4()) for name in names))

    assert len(set(ids)) == 50


@pytest.mark.parametrize("mode", ["fail_500", "fail_503", "reset", "redirect", "commit_then_500", "commit_then_reset"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_passing_fault_is_retried_with_the_same_key(billing, fail, requests, name, key, mode, times):
    await fail(mode, times=times)

    provider_id = await billing.create_provider(name, key)

    asked = await requests(name)
    assert provider_id == asked[-1]["provider_id"]
    assert len(asked) == times + 1
    assert {request["key"] for request in asked} == {str(key)}


@pytest.mark.parametrize("mode", ["fail_500", "fail_503", "reset", "redirect", "commit_then_500", "commit_then_reset"])
async def test_a_fault_that_does_not_pass_is_given_up_after_four_tries_as_uncertain(
    billing, fail, requests, name, key, mode
):
    await fail(mode)

    with pytest.raises(BillingUncertain):
        await billing.create_provider(name, key)

    assert len(await requests(name)) == 4


@pytest.mark.parametrize("mode", ["hang", "commit_then_hang", "slow"])
async def test_a_missing_response_is_uncertain(hurried_billing, fail, name, key, mode):
    await fail(mode, **({"delay": 1.0} if mode == "slow" else {}))

    with pytest.raises(BillingUncertain, match="timeout"):
        await hurried_billing.create_provider(name, key)


async def test_a_lost_response_is_recovered(hurried_billing, fail, requests, name, key):
    await fail("commit_then_hang", times=1)

    provider_id = await hurried_billing.create_provider(name, key)

    assert [request["provider_id"] for request in await requests(name)] == [provider_id, provider_id]


@pytest.mark.parametrize("mode", ["broken_201", "oversize", "wrong_name", "bad_id"])
async def test_a_broken_201_is_settled_by_the_next_try(billing, fail, requests, name, key, mode):
    await fail(mode, times=1)

    provider_id = await billing.create_provider(name, key)

    assert [request["provider_id"] for request in await requests(name)] == [provider_id, provider_id]


@pytest.mark.asvs("API10")
@pytest.mark.parametrize("mode", ["broken_201", "oversize", "wrong_name", "redirect"])
async def test_a_response_that_stays_unusable_is_reported(billing, fail, requests, name, key, mode):
    await fail(mode)

    for _ in range(2):
        with pytest.raises(BillingUnusable):
            await billing.create_provider(name, key)

    assert len(await requests(name)) == 8
    assert billing.breaker.state is protection.BreakerState.CLOSED  # billing responds


@pytest.mark.asvs("API10")
@pytest.mark.parametrize("bad_id", [0, -1, 2**31, 1.5, 7.0, "7", "", True, None, [], {}])
async def test_an_id_that_is_none_is_uncertain(billing, fail, name, key, bad_id):
    await fail("bad_id", bad_id=bad_id)

    with pytest.raises(BillingUncertain, match="without a usable provider"):
        await billing.create_provider(name, key)


class OtherSystem:
    """A billing system that returns an ID or raises an error."""

    def __init__(self, outcome):
        self._outcome = outcome
        self.asked = 0

    async def create_provider(self, name, idempotency_key, *, responding):
        self.asked += 1
        if isinstance(self._outcome, Exception):
            raise self._outcome
        responding()
        return self._outcome


def client_of(system, **options):
    return module.BillingClient(system, **{"max_tries": 2, "deadline": 5.0, "retry_ambiguous": True, **options})


def uncertain_calls():
    [metric] = CALLS.collect()
    return next((sample.value for sample in metric.samples if sample.labels == {"outcome": "uncertain"}), 0.0)


@pytest.mark.parametrize("bad_id", [0, -1, 2**31])
async def test_no_system_gives_an_id_that_a_candidate_cannot_have(name, key, bad_id):
    billing = client_of(OtherSystem(bad_id))

    with pytest.raises(BillingUnusable):
        await billing.create_provider(name, key)


@pytest.mark.parametrize("outcome", [KeyError("number"), TimeoutError(), "7"])
async def test_any_other_error_of_a_system_is_uncertain_counted_and_logged(name, key, outcome, caplog):
    system = OtherSystem(outcome)
    billing = client_of(system)
    before = uncertain_calls()

    with pytest.raises(BillingUncertain) as caught:
        await billing.create_provider(name, key)

    assert not isinstance(caught.value, BillingUnusable)
    assert system.asked == 2
    assert uncertain_calls() - before == 2
    assert [record.exc_info is not None for record in caplog.records if record.name == module.__name__] == [True] * 2


async def test_a_probe_that_fails_unexpectedly_has_a_result(name, key, monkeypatch):
    monkeypatch.setattr(protection, "OPEN_SECONDS", 0.0)
    billing = client_of(OtherSystem(KeyError("number")), max_tries=1)
    for _ in range(protection.FAILURES_TO_OPEN + 1):  # the last is the probe
        with pytest.raises(BillingUncertain):
            await billing.create_provider(name, uuid4())

    assert billing.breaker.retry_after < protection.PROBE_SECONDS / 2


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"id": 7}', b"\xff", b"[" * 9000, b"<html>", b'{"id": NaN}']
)
async def test_a_201_without_a_provider_is_uncertain(play, name, key, body):
    async with play(Script((201, body, {}))) as billing:
        with pytest.raises(BillingUncertain, match="without a usable provider"):
            await billing.create_provider(name, key)


async def test_fields_that_are_not_known_are_let_pass(play, name, key):
    script = Script((201, lambda name: {"id": 7, "name": name, "created": "today"}, {}))

    async with play(script) as billing:
        assert await billing.create_provider(name, key) == 7


@pytest.mark.asvs("V1.3.6", "V15.3.2")
@pytest.mark.parametrize("status", [200, 202, 204, 302, 500, 502, 503, 504, 599])
async def test_any_status_that_says_neither_yes_nor_no_is_retried(play, name, key, status):
    script = Script((status, b"", {}), created(7))

    async with play(script) as billing:
        assert await billing.create_provider(name, key) == 7

    assert script.asked == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 429, 451])
async def test_a_refusal_is_never_repeated(play, name, key, status):
    script = Script(failure(status, Retry_After="0"), created(7))

    async with play(script) as billing:
        with pytest.raises(BillingRefused) as caught:
            await billing.create_provider(name, key)

    assert str(status) in str(caught.value)
    assert caught.value.is_retryable == (status == 429)
    assert script.asked == 1


async def test_a_refusal_after_an_ambiguous_try_is_uncertain(play, name, key):
    async with play(Script(failure(500), failure(400))) as billing:
        with pytest.raises(BillingUncertain) as caught:
            await billing.create_provider(name, key)

    assert isinstance(caught.value.__cause__, BillingRefused)


async def test_a_name_that_is_taken_at_once_is_another_companys(billing, requests, name, key):
    await billing.create_provider(name, uuid4())

    with pytest.raises(BillingNameTaken) as caught:
        await billing.create_provider(name, key)

    assert len(await requests(name)) == 2
    assert str(caught.value)  # recorded as the reason for the approval's outcome


async def test_a_name_that_is_taken_after_an_ambiguous_try_may_be_ours(billing, sandbox, fail, name, key):
    await sandbox.put("/sandbox/settings", json={"honour_idempotency_key": False})
    await fail("commit_then_reset", times=1)

    with pytest.raises(BillingUncertain) as caught:
        await billing.create_provider(name, key)

    assert isinstance(caught.value.__cause__, BillingNameTaken)


async def test_a_name_that_is_taken_may_be_ours_when_an_earlier_call_may_have_made_it(billing, name, key):
    await billing.create_provider(name, uuid4())

    with pytest.raises(BillingUncertain) as caught:
        await billing.create_provider(name, key, maybe_sent=True)

    assert isinstance(caught.value.__cause__, BillingNameTaken)


@pytest.fixture
def dead_port():
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def test_a_refused_connection_has_certainly_sent_nothing(name, key, dead_port):
    async with billing_at(f"http://127.0.0.1:{dead_port}") as billing:
        with pytest.raises(BillingNotSent, match=os.strerror(errno.ECONNREFUSED)):
            await billing.create_provider(name, key)


async def test_a_refused_connection_is_uncertain_after_an_earlier_call(name, key, dead_port):
    async with billing_at(f"http://127.0.0.1:{dead_port}") as billing:
        with pytest.raises(BillingUncertain) as caught:
            await billing.create_provider(name, key, maybe_sent=True)

    assert isinstance(caught.value.__cause__, BillingNotSent)


@pytest.mark.parametrize("host", ["host.invalid", "127.0.0.1"])
async def test_a_host_that_cannot_be_reached_has_certainly_sent_nothing(name, key, dead_port, host):
    async with billing_at(f"http://{host}:{dead_port}") as billing:
        with pytest.raises(BillingNotSent):
            await billing.create_provider(name, key)


async def test_a_billing_service_that_starts_meanwhile_is_found(name, key, dead_port, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.3)
    async with billing_at(f"http://127.0.0.1:{dead_port}") as billing:
        asking = asyncio.create_task(billing.create_provider(name, key))
        await asyncio.sleep(0.1)
        async with Script(failure(409)).serve(dead_port):
            with pytest.raises(BillingNameTaken):  # nothing had been sent before, so it is not ours
                await asking


async def test_a_failure_before_refused_connections_leaves_it_uncertain(name, key, dead_port, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.3)
    script = Script(failure(500))
    async with billing_at(f"http://127.0.0.1:{dead_port}") as billing:
        async with script.serve(dead_port):
            asking = asyncio.create_task(billing.create_provider(name, key))
            while not script.asked:
                await asyncio.sleep(0.01)
        with pytest.raises(BillingUncertain) as caught:
            await asking

    assert isinstance(caught.value.__cause__, BillingNotSent)


@pytest.mark.parametrize(("length", "is_read"), [(64 * 1024, True), (64 * 1024 + 1, False)])
async def test_a_response_may_have_64_kibibytes(play, name, key, length, is_read):
    body = json.dumps({"id": 7, "name": name}).ljust(length)

    async with play(Script((201, body, {})), max_tries=1) as billing:
        if is_read:
            assert await billing.create_provider(name, key) == 7
        else:
            with pytest.raises(BillingUnusable):
                await billing.create_provider(name, key)


async def test_waits_double(play, name, key, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.1)
    script = Script(failure(503))

    async with play(script) as billing:
        with pytest.raises(BillingUncertain):
            await billing.create_provider(name, key)

    assert all(actual >= least for actual, least in zip(script.waits, [0.1, 0.2, 0.4], strict=True))


async def test_waits_are_jittered(play, name, key, monkeypatch):
    asked = []
    monkeypatch.setattr(module.RANDOM, "uniform", lambda low, high: asked.append((low, high)) or 10.0)
    script = Script(failure(503), created())

    async with play(script) as billing:
        await billing.create_provider(name, key)

    assert asked == [(0, 0.25)]
    assert script.waits[0] >= 0.01 * 11


@pytest.mark.parametrize("status", [500, 503])
async def test_retry_after_in_seconds_is_honoured(play, name, key, status):
    script = Script(failure(status, Retry_After="1"), created())

    async with play(script) as billing:
        await billing.create_provider(name, key)

    assert script.waits[0] >= 1


async def test_retry_after_as_a_date_is_honoured(play, name, key):
    at = datetime.now(UTC) + timedelta(seconds=2)
    script = Script(failure(503, Retry_After=format_datetime(at, usegmt=True)), created())

    async with play(script) as billing:
        await billing.create_provider(name, key)

    assert script.waits[0] >= 0.9  # a date has no fractions of a second


@pytest.mark.parametrize(
    "value",
    ["", "0", "soon", "-1", "1.5", "1e3", "0x1", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 99 Foo 2026 99:99:99 GMT"]
    + ["Mon, 01 Jan 0001 00:00:00 -0000", "Fri, 31 Dec 99999 00:00:00 GMT", "Mon, 01 Jan 2001 00:00:00 +9999"]
    + [f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +9999999999999"],
)
async def test_a_retry_after_that_asks_for_nothing_usable_is_ignored(play, name, key, value):
    script = Script(failure(503, Retry_After=value), created())

    async with play(script) as billing:
        await billing.create_provider(name, key)

    assert script.waits[0] < 1


@pytest.mark.parametrize("value", ["3600", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_retry_after_beyond_the_deadline_is_not_waited_for(play, name, key, value):
    script = Script(failure(503, Retry_After=value))
    started = time.monotonic()

    async with play(script) as billing:
        with pytest.raises(BillingUncertain):
            await billing.create_provider(name, key)
        assert time.monotonic() - started < 2

    assert script.asked == 1


@pytest.mark.asvs("V15.1.3", "V15.2.2")
async def test_all_tries_together_end_by_the_deadline(billing, sandbox, fail, name, key):
    await fail("hang")
    started = time.monotonic()

    async with billing_at(str(sandbox.base_url), request_seconds=30.0, deadline=0.4) as patient:
        with pytest.raises(BillingUncertain, match="did not respond within"):
            await patient.create_provider(name, key)

    assert time.monotonic() - started < 2


async def test_the_number_of_tries_can_be_set(play, name, key):
    script = Script(failure(503))

    async with play(script, max_tries=2) as billing:
        with pytest.raises(BillingUncertain):
            await billing.create_provider(name, key)

    assert script.asked == 2


async def test_an_ambiguous_try_is_the_last_one_where_repeating_is_not_safe(play, name, key):
    script = Script(failure(503), created())

    async with play(script, retry_ambiguous=False) as billing:
        with pytest.raises(BillingUncertain):
            await billing.create_provider(name, key)

    assert script.asked == 1


async def test_what_was_not_sent_is_repeated_even_there(name, key, dead_port, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.3)
    script = Script(created())
    async with billing_at(f"http://127.0.0.1:{dead_port}", retry_ambiguous=False) as billing:
        asking = asyncio.create_task(billing.create_provider(name, key))
        await asyncio.sleep(0.1)
        async with script.serve(dead_port):
            assert await asking == 7


@pytest.mark.asvs("V16.5.2")
async def test_a_billing_service_that_keeps_failing_is_left_alone_for_a_while(play, name, key):
    now = 1000.0
    script = Script(*[failure(503)] * 5, created())
    async with play(script, max_tries=1) as billing:
        billing.breaker = protection.CircuitBreaker(lambda: now)
        for _ in range(5):
            with pytest.raises(BillingUncertain) as failed:
                await billing.create_provider(name, uuid4())
        assert script.asked == 5

        with pytest.raises(BillingCircuitOpen) as caught:
            await billing.create_provider(name, key)
        assert caught.value.retry_after == protection.OPEN_SECONDS
        assert str(failed.value) in str(caught.value)
        assert script.asked == 5

        now += protection.OPEN_SECONDS
        assert await billing.create_provider(name, key) == 7


async def test_calls_that_are_given_up_at_the_deadline_count_as_failing(sandbox, fail):
    await fail("hang")
    async with billing_at(str(sandbox.base_url), deadline=0.1) as billing:
        for _ in range(5):
            assert billing.breaker.state is protection.BreakerState.CLOSED
            with pytest.raises(BillingUncertain):
                await billing.create_provider("x", uuid4())

        assert billing.breaker.state is protection.BreakerState.OPEN


async def test_refusals_do_not_count_as_failing(play, name):
    script = Script(failure(400))
    async with play(script) as billing:
        for _ in range(10):
            with pytest.raises(BillingRefused):
                await billing.create_provider(name, uuid4())

    assert script.asked == 10


async def test_retries_are_a_share_of_the_calls(play, monkeypatch):
    monkeypatch.setattr(protection, "FAILURES_TO_OPEN", 1000)
    script = Script(failure(503))
    async with play(script) as billing:
        for _ in range(20):
            with pytest.raises(BillingUncertain):
                await billing.create_provider("x", uuid4())

    assert 20 + protection.BUDGET_CAPACITY <= script.asked <= 20 + protection.BUDGET_CAPACITY + 20 * 0.1 + 1


@pytest.mark.asvs("V13.2.4", "V13.2.5")
async def test_proxies_of_the_environment_are_not_used(billing, sandbox, name, key, monkeypatch, dead_port):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{dead_port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{dead_port}")

    async with billing_at(str(sandbox.base_url)) as fresh:
        assert await fresh.create_provider(name, key)


async def test_a_caller_who_gives_up_leaves_the_client_usable(billing, sandbox, fail, name, key):
    await fail("hang", times=1)
    asking = asyncio.create_task(billing.create_provider(name, key))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert await billing.create_provider(name, key)
