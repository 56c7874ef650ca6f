"""Limits shared by several processes in a real Redis; and which proxies are trusted."""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import AsyncExitStack, closing, suppress
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis as Storage

from provider_registration.web import rate_limits
from provider_registration.web.rate_limits import MAX_STORAGE_CONNECTIONS, RateLimits, RateLimitsUnavailable
from tests.redis_server import Redis, needs_redis

from .conftest import PASSWORD

SCRAPE_TOKEN = f"scrape-{uuid4().hex}"


@pytest.fixture(scope="module")
async def redis(tmp_path_factory):
    redis = Redis(tmp_path_factory.mktemp("redis"))
    await asyncio.to_thread(redis.start)
    yield redis
    await asyncio.to_thread(redis.stop)


@pytest.fixture(scope="module")
async def pair(serving, environment, redis, tmp_path_factory):
    """Clients of two processes with shared counters."""
    folder = tmp_path_factory.mktemp("pair")
    together = {
        "RATE_LIMIT_STORAGE_URL": redis.url,
        "RATE_LIMIT_LOGIN": "5/minute",
        "RATE_LIMIT_REGISTRATION": "3/hour",
        "RATE_LIMIT_DEFAULT": "60/hour",
        "METRICS_TOKEN": SCRAPE_TOKEN,
    }
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(serving({**environment, **together}, folder)) for _ in "ab"]
        yield [
            await stack.enter_async_context(httpx.AsyncClient(base_url=process.url, timeout=30))
            for process in processes
        ]


@pytest.fixture
def from_here():
    """Headers of a request from an IP address that no other test uses."""
    return {"X-Forwarded-For": f"10.{random.randrange(256)}.{random.randrange(256)}.1"}  # noqa: S311 - not a secret


async def log_in(client, email, password, headers):
    return await client.post("/auth/login", json={"username": email, "password": password}, headers=headers)


@needs_redis
async def test_bad_tries_at_any_process_count_together(pair, admin_email, from_here):
    bad = "wrong password"
    tries = [(await log_in(pair[number % 2], admin_email, bad, from_here)).status_code for number in range(5)]
    refused = [await log_in(client, admin_email, PASSWORD, from_here) for client in pair]
    elsewhere = [await log_in(client, admin_email, PASSWORD, {"X-Forwarded-For": "198.51.100.7"}) for client in pair]

    assert tries == [401] * 5
    assert [response.status_code for response in refused] == [429, 429]
    assert all(0 < int(response.headers["Retry-After"]) <= 60 for response in refused)
    assert [response.status_code for response in elsewhere] == [200, 200]


@pytest.mark.asvs("V2.4.1")
@needs_redis
async def test_registrations_at_any_process_count_together(pair, registration, from_here):
    codes = [
        (await pair[number % 2].post("/candidates", json=registration(), headers=from_here)).status_code
        for number in range(5)
    ]

    assert codes == [201, 201, 201, 429, 429]


@needs_redis
async def test_requests_at_any_process_count_together(pair, from_here):
    codes = [(await pair[number % 2].get("/candidates", headers=from_here)).status_code for number in range(70)]

    assert codes == [401] * 60 + [429] * 10


@pytest.mark.asvs("V16.5.2")
@needs_redis
async def test_while_redis_is_down_logins_are_refused_and_other_requests_pass(
    pair, redis, admin_email, registration, from_here
):
    assert (await log_in(pair[0], admin_email, PASSWORD, from_here)).status_code == 200
    await asyncio.to_thread(redis.stop)

    refused = await log_in(pair[0], admin_email, PASSWORD, from_here)
    codes = [(await pair[0].post("/candidates", json=registration(), headers=from_here)).status_code for _ in range(5)]
    metrics = (await pair[0].get("/metrics", headers={"Authorization": f"Bearer {SCRAPE_TOKEN}"})).text
    await asyncio.to_thread(redis.start)
    again = await log_in(pair[0], admin_email, PASSWORD, from_here)

    assert refused.status_code == 503
    assert refused.json()["type"].endswith(":rate-limits-unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert codes == [201] * 5
    [errors] = [
        line for line in metrics.splitlines() if line.startswith("provider_service_rate_limit_storage_errors_total")
    ]
    assert float(errors.split()[1]) >= 6
    assert again.status_code == 200


@pytest.mark.asvs("V6.3.1")
@needs_redis
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(("CONFIG SET", "maxmemory", "1"), ("CONFIG SET", "maxmemory", "0"), id="full"),
        pytest.param(("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), id="read-only"),
    ],
)
async def test_while_redis_takes_no_writes_no_password_is_looked_at(pair, redis, admin_email, from_here, before, after):
    """Otherwise every attempt would learn whether its password is right, and none would be counted."""
    storage = Storage.from_url(redis.url)
    await storage.execute_command(*before)
    try:
        for password in ["wrong password"] * 6 + [PASSWORD]:
            assert (await log_in(pair[0], admin_email, password, from_here)).status_code == 503
    finally:
        await storage.execute_command(*after)
        await storage.aclose()
    assert (await log_in(pair[0], admin_email, PASSWORD, from_here)).status_code == 200


@needs_redis
@pytest.mark.parametrize("state", ["flushed", "restarted"])
async def test_a_redis_that_forgot_counts_tries_from_the_beginning(pair, redis, admin_email, from_here, state):
    """Redis has lost its scripts too: a password must not be checked if the attempt cannot be counted."""

    async def tries(number):
        return [
            (await log_in(pair[turn % 2], admin_email, "wrong password", from_here)).status_code
            for turn in range(number)
        ]

    assert await tries(6) == [401] * 5 + [429]
    if state == "flushed":
        async with Storage.from_url(redis.url) as storage:
            await storage.flushall()
            await storage.script_flush()
    else:
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(redis.start)

    answers = await tries(8)
    counted = [answer for answer in answers if answer != 503]  # connections to the earlier Redis may be broken
    assert counted == [401] * 5 + [429] * (len(counted) - 5)
    assert len(counted) > 5


async def test_forwarded_addresses_of_clients_are_ignored(serving, environment, registration, tmp_path):
    limits = {"RATE_LIMIT_REGISTRATION": "2/hour", "FORWARDED_ALLOW_IPS": "192.0.2.99"}
    async with (
        serving({**environment, **limits}, tmp_path) as process,
        httpx.AsyncClient(base_url=process.url) as client,
    ):
        codes = [
            (
                await client.post(
                    "/candidates", json=registration(), headers={"X-Forwarded-For": f"203.0.113.{number}"}
                )
            ).status_code
            for number in range(4)
        ]

    assert codes == [201, 201, 429, 429]


@needs_redis
async def test_check_finds_redis(redis, environment, fork_server, tmp_path):
    variables = {**os.environ, **environment, "RATE_LIMIT_STORAGE_URL": redis.url}
    checking = fork_server.start(["check"], variables, tmp_path)
    output, errors = await asyncio.to_thread(checking.communicate)

    assert checking.returncode == 0, output
    assert errors == ""
    assert [line.split()[:2] for line in output.splitlines() if "redis" in line] == [["ok", "redis:"]]


@pytest.mark.asvs("V16.5.2")
@needs_redis
async def test_a_redis_that_hangs_keeps_a_crowd_waiting_once_and_is_found_again(
    serving, environment, admin_email, tmp_path
):
    redis = Redis(tmp_path)
    await asyncio.to_thread(redis.start)
    together = {"RATE_LIMIT_STORAGE_URL": redis.url, "METRICS_TOKEN": SCRAPE_TOKEN}
    try:
        async with (
            serving({**environment, **together}, tmp_path) as process,
            httpx.AsyncClient(base_url=process.url, timeout=30) as client,
        ):
            assert (await log_in(client, admin_email, PASSWORD, {})).status_code == 200
            redis.hang()
            crowd, _ = await timed(asyncio.gather(*(client.get("/candidates") for _ in range(20))))
            one, refused = await timed(log_in(client, admin_email, PASSWORD, {}))
            later = [(await timed(client.get("/candidates")))[0] for _ in range(20)]
            counted = await storage_errors(client)
            redis.go_on()
            async with asyncio.timeout(30):
                while (await log_in(client, admin_email, PASSWORD, {})).status_code != 200:
                    await asyncio.sleep(0.2)
    finally:
        redis.go_on()
        await asyncio.to_thread(redis.stop)

    assert refused.status_code == 503
    assert crowd < 3  # one after another they would take 10 s
    assert one + sum(later) < 5  # without a breaker 10.5 s: half a second each
    assert (
        1 <= counted <= 20 + 2
    )  # the concurrent requests, and a probe or two: requests that skip Redis count no failure


@needs_redis
async def test_a_crowd_opens_a_bounded_number_of_connections_to_redis(redis, monkeypatch):
    """A request without a free connection used to open another; now requests wait for the existing ones."""
    monkeypatch.setattr(rate_limits, "STORAGE_TIMEOUT", 20.0)  # on a busy machine the last one waits a long time
    limits = RateLimits(storage_url=redis.url, login="", registration="", default="1000/minute")
    address = f"crowd-{uuid4().hex}"

    await asyncio.gather(*(limits.count_request(address) for _ in range(500)))

    async with Storage.from_url(redis.url) as storage:
        assert len(await storage.client_list()) <= MAX_STORAGE_CONNECTIONS + 1 + 2  # this one, and those of `pair`
        counted = [int(await storage.get(key)) async for key in storage.scan_iter(f"*{address}*")]
    assert counted == [500]
    await close(limits)


@needs_redis
async def test_a_request_without_a_free_redis_connection_gets_no_result(redis, monkeypatch):
    monkeypatch.setattr(rate_limits, "MAX_STORAGE_CONNECTIONS", 1)
    monkeypatch.setattr(rate_limits, "PROBE_SECONDS", 0.2)
    limits = RateLimits(storage_url=redis.url, login="5/minute", registration="", default="1/minute")
    pool = limits._storage.bridge.get_connection().connection_pool
    address = f"waits-{uuid4().hex}"

    async def log_in():
        async with limits.guard_login("account", address):
            pass

    taken = await pool.get_connection()
    with pytest.raises(RateLimitsUnavailable):
        await log_in()
    await limits.count_request(address)
    await limits.count_request(address)  # not counted, so not refused
    await pool.release(taken)
    async with asyncio.timeout(10):
        while True:
            with suppress(RateLimitsUnavailable):
                await log_in()
                break
            await asyncio.sleep(0.05)
    await close(limits)


@pytest.mark.parametrize("reply", [b":abc\r\n", b"?\r\n", b"\xff\xfe\r\n"])
async def test_an_invalid_redis_reply_is_an_error(reply):
    async def answer(reader, writer):
        with suppress(ConnectionError), closing(writer):
            while await reader.read(4096):
                writer.write(reply)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        limits = RateLimits(storage_url=url, login="5/minute", registration="5/minute", default="5/minute")
        with pytest.raises(RateLimitsUnavailable):
            async with limits.guard_login("account", "192.0.2.7"):
                pytest.fail("the password is checked although the try was not counted")
        for count in (limits.count_registration, limits.count_request):
            await count("192.0.2.7")
        await close(limits)


async def close(limits):
    await limits._storage.bridge.get_connection().aclose(close_connection_pool=True)


async def timed(work):
    started = time.monotonic()
    result = await work
    return time.monotonic() - started, result


async def storage_errors(client):
    metrics = (await client.get("/metrics", headers={"Authorization": f"Bearer {SCRAPE_TOKEN}"})).text
    name = "provider_service_rate_limit_storage_errors_total "
    return next(float(line.removeprefix(name)) for line in metrics.splitlines() if line.startswith(name))
