"""Faults of the real programs and the alerts of a real Prometheus, with windows and `for` 30 times shorter.

`make drill-alerts` causes more faults, with the original rules.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import httpx
import pytest

from provider_registration.auth.models import Role
from tests.production.conftest import PASSWORD, Process
from tests.programs.drills.programs import signal_tree
from tests.programs.drills.prometheus import Alerts, watching
from tests.programs.faults.billing import Billing
from tests.programs.faults.postgres_cluster import PostgresCluster
from tests.programs.faults.world import INSERT_CANDIDATES
from tests.redis_server import Redis, needs_redis
from tests.service import user_directory

from .deployed import faster_rules, needs_prometheus

FASTER = 30
PATIENCE = 90  # seconds, on a busy machine
SILENCE = 12  # seconds: longer than the window and `for` of 2 and 3 minutes together
TOKEN = "a-token-for-Prometheus-0123456789-xyz"
ADMIN = "admin@alerts.example"

pytestmark = [needs_prometheus, needs_redis]


@dataclass
class Stage:
    cluster: PostgresCluster
    redis: Redis
    billing: Billing
    process: Process
    alerts: Alerts
    client: httpx.AsyncClient
    database: asyncpg.Connection

    async def approve(self):
        [row] = await self.database.fetch(INSERT_CANDIDATES, [f"company {asyncio.get_running_loop().time()}"])
        await self.client.post(f"/candidates/{row['id']}/approve")

    async def gauge(self, series):
        text = (await self.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})).text
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(series)))


@pytest.fixture(scope="module")
async def stage(serving, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alerts")
    async with AsyncExitStack() as stack:
        cluster, billing, redis = PostgresCluster(folder), Billing(folder), Redis(folder)
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        await billing.start()
        stack.push_async_callback(billing.close)
        redis.start()
        stack.callback(redis.stop)
        url = await cluster.create_database()
        async with user_directory(url) as users:
            await users.create(ADMIN, PASSWORD, Role.ADMIN)
        environment = {
            "DATABASE_URL": url,
            "JWT_SECRET_KEY": TOKEN[::-1],
            "BILLING_SERVICE_URL": billing.url,
            "BILLING_MAX_TRIES": "1",
            "BILLING_DEADLINE_SECONDS": "5",  # sweeps every 0.75 s
            "RATE_LIMIT_STORAGE_URL": redis.url,
            "RATE_LIMIT_DEFAULT": "1000000/minute",
            "METRICS_TOKEN": TOKEN,
        }
        process = await stack.enter_async_context(serving(environment, folder))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=process.url, timeout=30))
        login = await client.post("/auth/login", json={"username": ADMIN, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {login.raise_for_status().json()['access_token']}"
        database = await asyncpg.connect(url)
        stack.push_async_callback(database.close)
        rules = faster_rules(folder / "rules", FASTER)
        target = process.url.removeprefix("http://")
        often = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        alerts = await stack.enter_async_context(
            watching(folder / "prometheus", [target], TOKEN, rule_folder=rules, **often)
        )
        yield Stage(cluster, redis, billing, process, alerts, client, database)


@asynccontextmanager
async def again_and_again(ask, pause):
    async def repeat():
        while True:
            await ask()
            await asyncio.sleep(pause)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_hanging_database_fires_and_resolves_its_alert_without_traffic(stage):
    before = len(outages(stage))
    signal_tree(stage.cluster.pid, signal.SIGSTOP)
    try:
        await stage.alerts.until("DatabaseDown", {"firing"}, PATIENCE)
        assert await stage.gauge("provider_service_database_up") == 0
    finally:
        signal_tree(stage.cluster.pid, signal.SIGCONT)
    await stage.alerts.until("DatabaseDown", set(), PATIENCE)

    assert await stage.gauge("provider_service_database_up") == 1
    assert 1 <= len(outages(stage)) - before <= 2 * (1 + PATIENCE / 10)


def outages(stage):
    return [line for line in stage.process.lines() if line["message"] == "the database is unavailable"]


async def test_only_a_long_redis_outage_fires_its_alert(stage):
    async def ask():
        await stage.client.get("/candidates")

    async with again_and_again(ask, 0.1):
        stage.redis.hang()
        await asyncio.sleep(1.5)
        stage.redis.go_on()
        await stage.alerts.stays_silent("RateLimitStorageFails", SILENCE)
        assert await stage.gauge("provider_service_rate_limit_storage_errors_total") > 0

        stage.redis.stop()
        await stage.alerts.until("RateLimitStorageFails", {"firing"}, PATIENCE)
        stage.redis.start()
        await stage.alerts.until("RateLimitStorageFails", set(), PATIENCE)


async def test_billing_that_recovers_resolves_its_alert_without_traffic(stage):
    await stage.billing.close()
    async with again_and_again(stage.approve, 0.5):
        await stage.alerts.until("BillingBreakerOpen", {"firing"}, PATIENCE)
    await stage.billing.start()

    await stage.alerts.until("BillingBreakerOpen", set(), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while not await stage.gauge('provider_service_billing_breaker{provider_service_billing_breaker="half_open"}'):
            await asyncio.sleep(0.2)
    await stage.approve()

    assert await stage.gauge('provider_service_billing_breaker{provider_service_billing_breaker="closed"}') == 1
