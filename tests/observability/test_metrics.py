"""`/metrics`: names that dashboards rely on, and labels that do not grow with requests."""

from __future__ import annotations

import asyncio
import random
import string
import time
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from provider_registration import __version__
from provider_registration.approvals.queries import OLDEST_TRANSACTION

REQUESTS = "provider_service_requests_total"


@pytest.fixture
def samples(anonymous):
    """Read the samples of one metric: labels as a frozenset, and the value."""

    async def samples(name):
        text = (await anonymous.get("/metrics")).text
        families = text_string_to_metric_families(text)
        return {frozenset(s.labels.items()): s.value for f in families for s in f.samples if s.name == name}

    return samples


def labels(method, endpoint, status_code):
    return frozenset({"method": method, "endpoint": endpoint, "status_code": str(status_code)}.items())


@pytest.mark.asvs("V4.1.1")
async def test_it_is_the_text_format_of_prometheus(anonymous):
    response = await anonymous.get("/metrics")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert list(text_string_to_metric_families(response.text))


async def test_the_service_is_up_from_start_to_stop(samples, run_service, settings):
    async with run_service(settings):
        assert await samples("provider_service_up") == {frozenset(): 1.0}

    # The metrics belong to the process, so the service that still runs shows the value that the stopped one set.
    assert await samples("provider_service_up") == {frozenset(): 0.0}


async def test_a_request_is_counted_by_method_route_and_status(samples, viewer, register):
    candidate = await register()
    expected = labels("GET", "/candidates/{candidate_id}", 200)
    before = (await samples(REQUESTS)).get(expected, 0)

    await viewer.get(f"/candidates/{candidate['candidate_id']}")

    assert (await samples(REQUESTS))[expected] == before + 1


@pytest.mark.asvs("V16.3.2", "V16.3.3")
@pytest.mark.parametrize(
    ("method", "path", "endpoint", "status"),
    [
        ("POST", "/candidates", "/candidates", 415),
        ("GET", "/candidates", "/candidates", 401),
        ("POST", "/candidates/nonsense/approve", "/candidates/{candidate_id}/approve", 401),
        ("DELETE", "/health", "/health", 405),
        ("GET", "/nowhere", "unmatched", 404),
    ],
)
async def test_refusals_are_counted_too(samples, anonymous, method, path, endpoint, status):
    before = (await samples(REQUESTS)).get(labels(method, endpoint, status), 0)

    await anonymous.request(method, path)

    assert (await samples(REQUESTS))[labels(method, endpoint, status)] == before + 1


async def test_random_paths_and_methods_add_a_few_series_at_most(samples, anonymous):
    await anonymous.get("/metrics")
    before = set(await samples(REQUESTS))
    chance = random.Random(1)  # noqa: S311 - not a secret
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND", "MKCOL", "SEARCH", "LINK"]

    for _ in range(300):
        word = "".join(chance.choices(string.ascii_letters + string.digits + "%2F./-_~{}", k=12))
        path = chance.choice(["/", "/candidates/", "/health/", "/docs/", "/redoc/", "/candidates/x/"]) + word
        await anonymous.request(chance.choice(methods), path)

    new = set(await samples(REQUESTS)) - before
    assert {dict(one)["endpoint"] for one in new} <= {
        "unmatched",
        "/",
        "/candidates/{candidate_id}",
        "/docs/{asset}",
        "/redoc/{asset}",
    }
    assert {dict(one)["method"] for one in new} <= {*methods[:7], "other"}
    assert len(new) <= 5 * 8 * 2


async def test_no_series_contains_request_data(samples, admin, register):
    candidate = await register()
    for path in (f"/candidates/{candidate['candidate_id']}", f"/nowhere/{candidate['candidate_id']}"):
        await admin.get(path, params={"status": candidate["candidate_id"]})

    series = await samples(REQUESTS)

    assert not [labels for labels in series if candidate["candidate_id"] in str(labels)]


async def test_the_time_of_requests_is_measured_by_method_and_route(samples, viewer, register):
    candidate = await register()
    route = frozenset({"method": "GET", "endpoint": "/candidates/{candidate_id}"}.items())
    counted, seconds = (f"provider_service_request_duration_seconds_{what}" for what in ("count", "sum"))
    before, spent = (await samples(counted)).get(route, 0), (await samples(seconds)).get(route, 0)

    await viewer.get(f"/candidates/{candidate['candidate_id']}")

    assert (await samples(counted))[route] == before + 1
    assert 0 < (await samples(seconds))[route] - spent < 10


async def test_the_request_that_asks_is_in_flight(samples):
    assert (await samples("provider_service_requests_in_flight"))[frozenset()] >= 1


async def test_the_version_is_shown(samples):
    assert await samples("provider_service_build_info") == {
        frozenset({("version", __version__), ("commit", "unknown")}): 1.0
    }


async def test_waiting_for_the_database_is_measured(samples, viewer):
    name = "provider_service_database_wait_seconds_count"
    before = (await samples(name))[frozenset()]

    await viewer.get("/candidates")

    assert (await samples(name))[frozenset()] > before
    assert (await samples("provider_service_database_waiting"))[frozenset()] >= 0
    assert (await samples("provider_service_database_connections_in_use"))[frozenset()] >= 0


async def test_the_time_of_billing_is_measured_by_outcome(samples, admin, register):
    created = frozenset({("outcome", "created")})
    name = "provider_service_billing_call_duration_seconds_count"
    before = (await samples(name)).get(created, 0)

    await admin.post(f"/candidates/{(await register())['candidate_id']}/approve")

    assert (await samples(name))[created] == before + 1


async def test_candidates_are_counted_by_status(samples, register, database):
    await register()

    async with asyncio.timeout(30):
        while True:
            rows = await database.fetch("SELECT status, count(*) AS candidates FROM candidates GROUP BY status")
            there = {frozenset({("status", row["status"])}): row["candidates"] for row in rows}
            told = await samples("provider_service_candidates")
            if {status: count for status, count in told.items() if count} == there:
                break
            await asyncio.sleep(0.2)


async def eventually(condition):
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.2)


async def test_the_age_of_the_oldest_pending_candidate_is_shown(samples, no_candidates, register, database):
    async def age():
        return (await samples("provider_service_oldest_pending_candidate_seconds"))[frozenset()]

    async def is_four_days():
        return 4 * 86400 <= await age() < 4 * 86400 + 600

    async def is_none():
        return await age() == 0

    await register()
    old = await register()
    await database.execute(
        "UPDATE candidates SET created_at = now() - interval '4 days' WHERE id = $1", old["candidate_id"]
    )
    await eventually(is_four_days)
    await database.execute("DELETE FROM candidate_events; DELETE FROM candidates")
    await eventually(is_none)


async def test_a_transaction_that_stays_open_is_seen(samples, migrated_database_url):
    connection = await asyncpg.connect(migrated_database_url)
    try:
        await connection.execute("BEGIN")

        async def is_seen():
            return (await samples("provider_service_oldest_transaction_seconds"))[frozenset()] > 2

        await eventually(is_seen)
    finally:
        await connection.close()


async def test_the_transactions_since_an_old_snapshot_are_counted(samples, database, migrated_database_url):
    name = "provider_service_transactions_since_oldest"
    connection = await asyncpg.connect(migrated_database_url)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM candidates")
        for _ in range(1200):
            await database.execute("SELECT pg_current_xact_id()")

        async def are_counted():
            return (await samples(name))[frozenset()] >= 1200

        await eventually(are_counted)
    finally:
        await connection.close()


async def test_a_role_that_may_not_look_says_so(database):
    role = f"serving_{uuid4().hex}"
    await database.execute(f"CREATE ROLE {role}")
    statement = OLDEST_TRANSACTION.text
    try:
        await database.execute(f"SET ROLE {role}")
        assert await database.fetchrow(statement) is None
        await database.execute("RESET ROLE")
        await database.execute(f"GRANT pg_read_all_stats TO {role}")
        await database.execute(f"SET ROLE {role}")
        assert min(await database.fetchrow(statement)) >= 0
    finally:
        await database.execute("RESET ROLE")
        await database.execute(f"DROP ROLE {role}")


async def test_the_database_is_up_and_swept(samples):
    async def is_so():
        swept = (await samples("provider_service_last_sweep_timestamp_seconds"))[frozenset()]
        is_up = (await samples("provider_service_database_up"))[frozenset()]
        return is_up == 1 and time.time() - swept < 10

    await eventually(is_so)
