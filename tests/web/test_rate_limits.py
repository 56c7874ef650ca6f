"""Rate limits of one client."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner

from provider_registration.auth.errors import InvalidCredentials
from provider_registration.auth.models import Role
from provider_registration.cli import main
from provider_registration.web import quotas as quota_module
from provider_registration.web import rate_limit_middleware
from provider_registration.web.rate_limits import RateLimits, TooManyRequests

PASSWORD = "a password that nobody else has"


@pytest.fixture
async def limited(settings, run_service):
    """Client of a service with low limits, which trusts this machine's X-Forwarded-For."""
    small = settings.model_copy(
        update={
            "rate_limit_login": "5/minute",
            "rate_limit_registration": "3/hour",
            "rate_limit_default": "40/hour",
        }
    )
    async with run_service(small) as service, httpx.AsyncClient(base_url=service.url) as client:
        yield client


@pytest.fixture
async def maria(users):
    """E-mail address of a viewer that only this test uses."""
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, Role.VIEWER)
    return email


async def log_in(client, email, password, address="192.0.2.1"):
    return await client.post(
        "/auth/login", json={"username": email, "password": password}, headers={"X-Forwarded-For": address}
    )


@pytest.mark.asvs("V6.3.1")
async def test_the_sixth_bad_try_within_a_minute_is_refused(limited, maria):
    answers = [(await log_in(limited, maria, "wrong password")).status_code for _ in range(5)]
    sixth = await log_in(limited, maria, PASSWORD)

    assert answers == [401] * 5
    assert sixth.status_code == 429
    assert sixth.json()["type"].endswith(":too-many-requests")
    assert 0 < int(sixth.headers["Retry-After"]) <= 60


@pytest.mark.asvs("V6.3.1", "API2")
async def test_a_burst_of_tries_gets_no_further_than_one_after_the_other(limited, maria):
    responses = await asyncio.gather(*(log_in(limited, maria, "wrong password") for _ in range(20)))

    assert sorted(response.status_code for response in responses) == [401] * 5 + [429] * 15


@pytest.mark.asvs("V6.3.1")
async def test_an_attacker_elsewhere_cannot_lock_the_owner_out(limited, maria):
    for _ in range(6):
        await log_in(limited, maria, "wrong password", address="198.51.100.7")

    assert (await log_in(limited, maria, PASSWORD, address="198.51.100.7")).status_code == 429
    assert (await log_in(limited, maria, PASSWORD, address="192.0.2.1")).status_code == 200


async def test_an_address_is_one_whatever_is_written_after_its_ipv6_network(limited, maria):
    for host in range(5):
        await log_in(limited, maria, "wrong password", address=f"2001:db8:1:2::{host}")

    assert (await log_in(limited, maria, PASSWORD, address="2001:db8:1:2:ffff::1")).status_code == 429
    assert (await log_in(limited, maria, PASSWORD, address="2001:db8:1:3::1")).status_code == 200


async def test_good_tries_are_not_counted(limited, maria):
    answers = [(await log_in(limited, maria, PASSWORD)).status_code for _ in range(8)]

    assert answers == [200] * 8


async def test_good_tries_at_once_are_not_too_many(limited, maria):
    responses = await asyncio.gather(*(log_in(limited, maria, PASSWORD) for _ in range(8)))

    assert [response.status_code for response in responses] == [200] * 8


@pytest.mark.asvs("V6.3.1")
async def test_many_accounts_are_not_tried_from_one_address():
    limits = RateLimits(storage_url="", login="5/minute", registration="", default="")
    for number in range(50):
        with suppress(InvalidCredentials):
            async with limits.guard_login(str(number), "192.0.2.7"):
                raise InvalidCredentials

    with pytest.raises(TooManyRequests):
        async with limits.guard_login("another", "192.0.2.7"):
            pass
    async with limits.guard_login("another", "192.0.2.8"):
        pass


async def test_nothing_is_kept_of_finished_logins():
    limits = RateLimits(storage_url="", login="500/minute", registration="", default="")
    for number in range(20):
        with suppress(InvalidCredentials):
            async with limits.guard_login(str(number), "192.0.2.7"):
                raise InvalidCredentials

    assert not limits._login_turns


async def test_unlimited_logins_do_not_use_the_storage():
    limits = RateLimits(storage_url="redis://127.0.0.1:1", login="", registration="", default="")
    async with limits.guard_login("maria", "192.0.2.7"):
        pass

    with pytest.raises(InvalidCredentials):  # exceptions of the block are not changed
        async with limits.guard_login("maria", "192.0.2.7"):
            raise InvalidCredentials


async def test_an_account_is_one_however_its_name_is_written(limited, users):
    email = f"iris.{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, Role.VIEWER)
    for _ in range(5):
        await log_in(limited, email.replace("s", "\u017f", 1), "wrong password")

    assert (await log_in(limited, email, PASSWORD)).status_code == 429
    assert (await log_in(limited, email.replace("i", "\u0130", 1), PASSWORD)).status_code == 429


async def test_tries_for_an_erased_user_are_counted(limited, maria, database, migrated_database_url):
    user_id = await database.fetchval("SELECT id FROM users WHERE email = $1", maria)
    environment = {"DATABASE_URL": migrated_database_url}
    erased = await asyncio.to_thread(CliRunner().invoke, main, ["erase-data", maria, "--yes"], env=environment)
    assert erased.exit_code == 0, erased.output

    name = f"erased-{user_id}@erased.invalid"
    answers = [(await log_in(limited, name, password)).status_code for password in ["!", PASSWORD] * 3]

    assert answers == [401] * 5 + [429]


async def test_ipv4_addresses_inside_ipv6_are_told_apart(limited, maria):
    for _ in range(5):
        await log_in(limited, maria, "wrong password", address="::ffff:203.0.113.1")

    assert (await log_in(limited, maria, PASSWORD, address="203.0.113.1")).status_code == 429
    assert (await log_in(limited, maria, PASSWORD, address="::ffff:203.0.113.2")).status_code == 200


@pytest.mark.parametrize(
    "address", ["203.0.113.9:{}", "[::ffff:203.0.113.9]:{}", "[64:ff9b::203.0.113.9]:{}", "192.0.2.{}, 203.0.113.9"]
)
async def test_neither_a_port_nor_what_came_before_makes_another_address(limited, maria, address):
    for number in range(5):
        await log_in(limited, maria, "wrong password", address=address.format(number))

    assert (await log_in(limited, maria, PASSWORD, address="203.0.113.9")).status_code == 429


async def test_letter_case_makes_no_other_account(limited, maria):
    for _ in range(5):
        await log_in(limited, maria.upper(), "wrong password")

    assert (await log_in(limited, maria, PASSWORD)).status_code == 429


@pytest.mark.asvs("API6")
async def test_registrations_are_limited_by_address(limited, registration):
    async def register(address):
        headers = {"X-Forwarded-For": address}
        return (await limited.post("/candidates", json=registration(), headers=headers)).status_code

    assert [await register("192.0.2.1") for _ in range(4)] == [201, 201, 201, 429]
    assert await register("192.0.2.2") == 201


@pytest.mark.asvs("API4")
async def test_everything_else_is_limited_by_session_and_made_up_tokens_by_address(limited, maria):
    token = (await log_in(limited, maria, PASSWORD)).json()["access_token"]

    async def ask(token, address):
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": address}
        return (await limited.get("/candidates", params={"limit": 1}, headers=headers)).status_code

    assert {await ask(f"made-up-{n}", "192.0.2.9") for n in range(40)} == {401}
    assert await ask("made-up", "192.0.2.9") == 429
    assert {await ask(token, f"192.0.2.{n}") for n in range(40)} == {200}
    assert await ask(token, "192.0.2.99") == 429


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
async def test_probes_and_scrapes_are_not_limited(limited, path):
    answers = {(await limited.get(path)).status_code for _ in range(45)}

    assert answers == {200}


@pytest.mark.parametrize("path", ["/healthx", "/health/", "/metrics/x", "/candidates/health"])
async def test_what_only_looks_like_a_probe_is_limited(limited, path):
    answers = [(await limited.get(path)).status_code for _ in range(45)]

    assert 429 in answers
    assert 429 not in answers[:35]


@pytest.mark.asvs("V16.3.1")
async def test_refusals_are_counted(limited, maria):
    for _ in range(6):
        await log_in(limited, maria, "wrong password")

    text = (await limited.get("/metrics")).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['provider_service_rate_limit_refusals_total{limit="login"}']) >= 1
    assert float(lines['provider_service_logins_total{outcome="failed"}']) >= 5
    assert float(lines['provider_service_logins_total{outcome="limited"}']) >= 1


async def test_without_the_storage_logins_are_refused_and_other_requests_pass(
    settings, run_service, maria, registration
):
    unreachable = settings.model_validate(
        {
            **settings.model_dump(),
            "rate_limit_login": "5/minute",
            "rate_limit_registration": "3/hour",
            "rate_limit_default": "40/hour",
            "rate_limit_storage_url": "redis://127.0.0.1:1",
        }
    )
    async with run_service(unreachable) as service, httpx.AsyncClient(base_url=service.url) as client:
        refused = await log_in(client, maria, PASSWORD)
        registered = await client.post("/candidates", json=registration())
        text = (await client.get("/metrics")).text

    assert refused.status_code == 503
    assert refused.json()["type"].endswith(":rate-limits-unavailable")
    assert refused.headers["Retry-After"]
    assert registered.status_code == 201
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines["provider_service_rate_limit_storage_errors_total"]) >= 2
    assert float(lines['provider_service_logins_total{outcome="unavailable"}']) >= 1


async def body_until(held):
    """A request body with an empty object, which ends when the event is set."""
    yield b"{"
    await held.wait()
    yield b"}"


def two_under_way(client, headers, held):
    """Two registrations, which end when the event is set."""
    return [
        asyncio.create_task(client.post("/candidates", content=body_until(held), headers=headers)) for _ in range(2)
    ]


@pytest.mark.asvs("V2.4.1")
@pytest.mark.parametrize("limit", ["1200/minute", ""])
async def test_one_caller_does_not_have_everything_under_way(settings, run_service, monkeypatch, limit):
    monkeypatch.setattr(rate_limit_middleware, "MAX_CONCURRENT", 2)

    held = asyncio.Event()
    async with run_service(settings.model_copy(update={"rate_limit_default": limit})) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            headers = {"X-Forwarded-For": "192.0.2.1", "Content-Type": "application/json"}
            slow = two_under_way(client, headers, held)
            async with asyncio.timeout(20):
                while (refused := await client.get("/candidates", headers=headers)).status_code != 429:
                    await asyncio.sleep(0.01)
            elsewhere = await client.get("/candidates", headers={"X-Forwarded-For": "192.0.2.2"})
            probe = await client.get("/health/live", headers=headers)
            held.set()
            served = [response.status_code for response in await asyncio.gather(*slow)]
            again = await client.get("/candidates", headers=headers)

    assert refused.json()["type"].endswith(":too-many-requests")
    assert refused.headers["Retry-After"] == "1"
    assert (elsewhere.status_code, probe.status_code, again.status_code) == (401, 200, 401)
    assert served == [422, 422]


@pytest.mark.parametrize("limit", ["1200/minute", ""])
async def test_requests_of_one_address_wait_for_one_another(settings, run_service, monkeypatch, limit):
    monkeypatch.setattr(rate_limit_middleware, "MAX_RUNNING", 2)

    held = asyncio.Event()
    async with run_service(settings.model_copy(update={"rate_limit_default": limit})) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            headers = {"X-Forwarded-For": "192.0.2.1", "Content-Type": "application/json"}
            slow = two_under_way(client, headers, held)
            async with asyncio.timeout(20):
                with suppress(TimeoutError):
                    while True:
                        await asyncio.wait_for(client.get("/candidates", headers=headers), 1)
            elsewhere = await client.get("/candidates", headers={"X-Forwarded-For": "192.0.2.2"})
            held.set()
            served = [response.status_code for response in await asyncio.gather(*slow)]
            again = await client.get("/candidates", headers=headers)

    assert (elsewhere.status_code, again.status_code) == (401, 401)
    assert served == [422, 422]


@pytest.mark.parametrize(
    ("content_type", "later"),
    [("text/event-stream; charset=utf-8", [200, 200]), ("text/csv; charset=utf-8", [429, 429])],
)
async def test_only_open_event_streams_leave_their_place_to_others(monkeypatch, content_type, later):
    monkeypatch.setattr(rate_limit_middleware, "MAX_CONCURRENT", 1)
    began, may_end = asyncio.Event(), asyncio.Event()

    async def app(scope, _receive, send):
        headers = [(b"content-length", b"1"), (b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/open":
            began.set()
            await may_end.wait()
        await send({"type": "http.response.body", "body": b"a"})

    limits = RateLimits(storage_url="", login="", registration="", default="")
    limited = rate_limit_middleware.RateLimitMiddleware(
        app, limits=limits, caller_of=rate_limit_middleware.network_of_client
    )

    async def ask(path):
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("192.0.2.1", 1)}
        await limited(scope, None, send)
        return statuses[0]

    stream = asyncio.create_task(ask("/open"))
    await asyncio.wait_for(began.wait(), 5)
    while_open = [await ask("/"), await ask("/")]
    may_end.set()

    assert await stream == 200
    assert while_open == later
    assert await ask("/") == 200
    assert not limited._turns


async def test_a_slowly_read_response_keeps_no_turn(monkeypatch):
    monkeypatch.setattr(rate_limit_middleware, "MAX_RUNNING", 1)
    is_read = asyncio.Event()

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a"})

    async def read_slowly(_message):
        await is_read.wait()

    async def read(message):
        statuses.append(message.get("status"))

    limits = RateLimits(storage_url="", login="", registration="", default="1200/minute")
    limited = rate_limit_middleware.RateLimitMiddleware(
        app, limits=limits, caller_of=rate_limit_middleware.network_of_client
    )
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
    statuses = []
    slow = asyncio.create_task(limited(scope, None, read_slowly))
    await asyncio.wait_for(limited(scope, None, read), 5)
    is_read.set()
    await slow

    assert statuses[0] == 200


async def test_responses_say_what_is_left_of_the_limits_that_counted_them(limited, registration):
    first = await limited.get("/openapi.json", headers={"X-Forwarded-For": "192.0.2.77"})
    second = await limited.post("/candidates", json=registration(), headers={"X-Forwarded-For": "192.0.2.77"})
    probe = await limited.get("/health/live")

    assert first.headers["RateLimit-Policy"] == '"default";q=40;w=3600'
    assert re.fullmatch(r'"default";r=39;t=\d+', first.headers["RateLimit"])
    assert second.headers["RateLimit-Policy"] == '"default";q=40;w=3600, "registration";q=3;w=3600'
    assert re.fullmatch(r'"default";r=38;t=\d+, "registration";r=2;t=\d+', second.headers["RateLimit"])
    assert "RateLimit" not in probe.headers


async def test_a_refusal_says_that_nothing_is_left_and_when_to_come_back(limited):
    while (response := await limited.get("/openapi.json")).status_code == 200:
        pass

    assert response.status_code == 429
    left = re.fullmatch(r'"default";r=0;t=(\d+)', response.headers["RateLimit"])
    assert left
    assert abs(int(left[1]) - int(response.headers["Retry-After"])) <= 1


async def test_what_is_left_is_as_the_library_counts_it():
    limits = RateLimits(storage_url="", login="", registration="", default="7/hour; 9/day")
    quotas = quota_module.begin_quotas()

    for _ in range(5):
        await limits.count_request("caller")

    assert [(each.name, each.left) for each in quotas[-2:]] == [("default", 2), ("default-2", 4)]
    for quota, item in zip(quotas[-2:], limits._default.items, strict=True):
        stats = await limits._default.limiter.get_window_stats(item, "default", "caller")
        assert (quota.left, round(quota.reset)) == (stats.remaining, round(stats.reset_time))


async def test_a_request_that_counts_twice_has_what_is_left_once():
    limits = RateLimits(storage_url="", login="", registration="", default="7/hour")
    quotas = quota_module.begin_quotas()

    await limits.count_request("caller")
    await limits.count_request("caller", cost=3)

    [(_, left), (_, policy)] = quota_module.quota_headers(quotas)
    assert re.fullmatch(rb'"default";r=3;t=\d+', left)
    assert policy == b'"default";q=7;w=3600'


async def test_a_sign_in_does_not_say_how_many_tries_an_account_has_left(limited, maria):
    response = await log_in(limited, maria, "wrong password")

    assert response.headers["RateLimit-Policy"] == '"default";q=40;w=3600'
