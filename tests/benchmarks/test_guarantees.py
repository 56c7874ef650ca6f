"""A peer that writes less than it promises fails the run, and so does a second provider."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from benchmarks import guarantees
from benchmarks.bench import Plan, Stage, measure_stage, started
from benchmarks.contenders import FASTIFY_EQUAL, LITESTAR_EQUAL, SOURCES
from benchmarks.database import OURS, connected, forget_made, make_databases, prepare_pending, row_id
from benchmarks.drivers import Httpx
from benchmarks.guarantees import BrokenPromise, check_written
from benchmarks.processes import NO_TLS
from benchmarks.scenarios import ALL, APPROVE, REGISTER, REJECT
from benchmarks.workplace import is_installed
from provider_registration.candidates.search_text import search_text

from ..conftest import drop_database  # noqa: TID252 - tests are no package that has a name

ROWS = 50
PROVIDER = 7_000_000

# What the service writes at an approval, at a rejection and at a registration.
ADD = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day,
                            contact_email_canonical, search_text)
    VALUES ('Huerta 1', 'bench-1@example.com', ARRAY['apples'], 1, 1, 'bench-1@example.com', ' bench 1')
    RETURNING id
"""
REGISTERED = """
    WITH added AS (
        INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day,
                                contact_email_canonical, search_text)
        VALUES ('Huerta 1', 'bench-1@example.com', ARRAY['apples'], 1, 1, 'bench-1@example.com', ' bench 1')
        RETURNING id
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, version)
        SELECT id, 'candidate.registered', 'applicant', 1 FROM added
    )
    SELECT id FROM added
"""
REJECTED = """
    WITH rejected AS (
        UPDATE candidates SET status = 'rejected', rejected_by = $2 WHERE id = $1 RETURNING id, version
    )
    INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version)
    SELECT id, 'candidate.rejected', 'user', $2, version FROM rejected
"""
APPROVED = """
    WITH approved AS (
        UPDATE candidates SET status = 'approved', provider_id = $3 WHERE id = $1 RETURNING id, version
    )
    INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
    SELECT id, event.type, 'user', $2, event.version,
           jsonb_build_object('idempotency_key', gen_random_uuid()) || event.data
    FROM approved, LATERAL (VALUES
        ('candidate.approval_requested', 1, '{}'::jsonb),
        ('candidate.approved', approved.version, jsonb_build_object('provider_id', CAST($3 AS integer)))
    ) AS event (type, version, data)
"""
LEFT_BY_A_CRASH = """
    INSERT INTO approval_intents
        (candidate_id, idempotency_key, provider_name, requested_by, claim_id, next_attempt_at)
    SELECT id, gen_random_uuid(), company_name, $2, gen_random_uuid(), now() - interval '1 second'
    FROM candidates WHERE id = $1
"""
STATUS = "SELECT status FROM candidates WHERE id = $1"


@pytest.fixture(scope="module")
async def databases(server_url):
    prefix = f"test_{uuid4().hex}"
    made = await make_databases(server_url, ROWS, {"equal"}, prefix)
    yield made
    for name in made.urls:
        await drop_database(server_url, f"{prefix}_{name}_{ROWS}")


@pytest.fixture
async def connection(databases):
    """Its changes are undone by the caller, who checks in the same database."""
    async with connected(databases.urls[OURS]) as connection:
        yield connection
        await connection.execute("TRUNCATE candidates, candidate_events, approval_intents, approval_events CASCADE")


@pytest.fixture(autouse=True)
def one_try(monkeypatch):
    monkeypatch.setattr(guarantees, "PAUSE", 0.001)


@pytest.fixture
def billing(monkeypatch):
    """What billing created; it says so once."""
    made = {}

    async def say_and_forget(_url):
        told = dict(made)
        made.clear()
        return told

    monkeypatch.setattr(guarantees, "providers_made", say_and_forget)
    return made


@pytest.fixture
def check(databases, billing):
    async def check(scenario, made=None, *, answered=1):
        billing.update(made or {})
        await check_written(databases.urls[OURS], "", scenario, answered)

    return check


async def test_complete_writes_pass(check, connection):
    await connection.fetchval(REGISTERED)
    await check(REGISTER)


async def test_a_registration_without_its_own_event_is_found(check, connection):
    await connection.execute(ADD)  # the event that the trigger adds is not the writer's

    with pytest.raises(BrokenPromise, match="event of the registration"):
        await check(REGISTER)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE candidates SET search_text = ''", "search text"),
        ("UPDATE candidates SET contact_email_canonical = id || '@example.com'", "canonical address"),
        ("UPDATE candidate_counts SET count = count + 1", "counts were wrong"),
    ],
)
async def test_what_a_registration_lacks_is_found(check, connection, change, told):
    await connection.fetchval(REGISTERED)
    await connection.execute(change)

    with pytest.raises(BrokenPromise, match=told):
        await check(REGISTER)


async def test_an_answer_without_a_row_is_found(check, connection):
    await connection.fetchval(REGISTERED)

    with pytest.raises(BrokenPromise, match="1 rows for 2 answers"):
        await check(REGISTER, answered=2)


async def test_a_rejection_without_its_event_is_found(check, databases, connection):
    id_ = await connection.fetchval(REGISTERED)
    await connection.execute(REJECTED, id_, databases.admin_id)
    await check(REJECT)
    await connection.execute("DELETE FROM candidate_events WHERE type = 'candidate.rejected'")

    with pytest.raises(BrokenPromise, match="event of the rejection"):
        await check(REJECT)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DELETE FROM candidate_events WHERE type = 'candidate.approval_requested'", "event of the request"),
        ("DELETE FROM candidate_events WHERE type = 'candidate.approved'", "event of the approval"),
        ("UPDATE candidates SET provider_id = provider_id + 1000", "event of the approval"),
    ],
)
async def test_what_an_approval_lacks_is_found(check, databases, connection, change, told):
    id_ = await connection.fetchval(REGISTERED)
    await connection.execute(APPROVED, id_, databases.admin_id, PROVIDER)
    await check(APPROVE, {"Huerta 1": [PROVIDER]})
    await connection.execute(change)

    with pytest.raises(BrokenPromise, match=told):
        await check(APPROVE, {"Huerta 1": [PROVIDER]})


@pytest.mark.parametrize("made", [{}, {"Huerta 1": [PROVIDER, 8]}, {"Huerta 1": [PROVIDER], "Huerta 2": [8]}])
async def test_another_number_of_providers_than_approvals_is_found(check, databases, connection, made):
    id_ = await connection.fetchval(REGISTERED)
    await connection.execute(APPROVED, id_, databases.admin_id, PROVIDER)

    with pytest.raises(BrokenPromise, match="in billing"):
        await check(APPROVE, made)


EQUAL_PEERS = pytest.mark.parametrize(
    "contender", [LITESTAR_EQUAL, FASTIFY_EQUAL], ids=lambda contender: contender.name
)


@EQUAL_PEERS
async def test_an_equal_peer_carries_out_what_a_crash_has_left(databases, contender):
    skip_without(contender)
    async with (
        started([contender], databases, auth=True) as (running,),
        connected(running.database_url) as connection,
    ):
        [id_] = await prepare_pending(running.database_url, 1)
        await connection.execute(LEFT_BY_A_CRASH, id_, databases.admin_id)
        for _ in range(150):
            if await connection.fetchval(STATUS, id_) == "approved":
                break
            await asyncio.sleep(0.2)
        made = await guarantees.providers_made(running.around.billing_url)

        assert await connection.fetchval(STATUS, id_) == "approved"
        assert await connection.fetchval("SELECT count(*) FROM approval_intents") == 0
        assert [len(ids) for ids in made.values()] == [1]
        await forget_made(running.database_url)


@EQUAL_PEERS
async def test_an_equal_peer_does_not_reject_during_an_approval(databases, contender):
    skip_without(contender)
    async with (
        started([contender], databases, auth=True) as (running,),
        httpx.AsyncClient(base_url=running.url, trust_env=False, verify=NO_TLS, timeout=30) as client,
    ):
        client.headers["Authorization"] = f"Bearer {running.tokens()[0]}"
        ids = await prepare_pending(running.database_url, 10)
        decisions = [client.post(f"/candidates/{id_}/{word}") for id_ in ids for word in ("approve", "reject")]
        statuses = [response.status_code for response in await asyncio.gather(*decisions)]

        assert statuses.count(200) == len(ids)
        assert set(statuses) <= {200, 400, 409}
        await check_written(running.database_url, running.around.billing_url, APPROVE, statuses[::2].count(200))
        await forget_made(running.database_url)


@EQUAL_PEERS
async def test_an_equal_peer_counts_requests_by_route(databases, contender):
    skip_without(contender)
    async with (
        started([contender], databases, auth=True) as (running,),
        httpx.AsyncClient(base_url=running.url, trust_env=False, verify=NO_TLS, timeout=30) as client,
    ):
        headers = {"Authorization": f"Bearer {running.tokens()[0]}"}
        for number in (1, 2):
            (await client.get(f"/candidates/{row_id(number)}", headers=headers)).raise_for_status()
        metrics = (await client.get("/metrics")).text

    [line] = [line for line in metrics.splitlines() if "duration_seconds_count" in line and "candidate_id" in line]
    assert float(line.split()[-1]) == 2


def skip_without(contender):
    if not is_installed(contender):
        pytest.skip("the peer is installed by `make bench`")


@EQUAL_PEERS
async def test_the_equal_peers_keep_their_promises(databases, contender):
    skip_without(contender)
    scenarios = [scenario for scenario in ALL if scenario.connections == 4]
    plan = Plan(Httpx(), rounds=1, seconds=0.05, decisions_per_second=200, tell=lambda _: None, settle=0.01)

    await measure_stage(plan, Stage(ROWS, True, scenarios), [contender], databases)

    assert len(plan.measurements) == len(scenarios)


@pytest.mark.parametrize(
    "facts",
    [
        ("Huerta del Sol S.L.", "ventas@huerta.example", "+34 963 555 017", "Valencia, Spain"),
        ("O'Neil & Sons 0034 963 555 018", "o'neil@sons.example", None, None),
        ("Müller Straße 株式会社", "müller@straße.example", "0049 (30) 123-45-67", "Köln"),
    ],
)
def test_the_peers_make_the_search_text_of_the_service(facts):
    file = SOURCES / "litestar_asyncpg/search_text.py"
    spec = importlib.util.spec_from_file_location("search_text_of_a_peer", Path(file))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.search_text(*facts) == search_text(*facts)
