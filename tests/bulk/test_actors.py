"""A job acts for who posted it: it stops when they may not decide any more."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.auth.models import Role
from tests.service import PASSWORD

from .conftest import items_of


@pytest.fixture
async def colleague(service, users, connect, anonymous):
    """Another admin: the e-mail address and a client."""
    email = f"{uuid4().hex}@supply.example"
    await users.create(email, PASSWORD, Role.ADMIN)
    response = await anonymous.post("/auth/login", json={"username": email, "password": PASSWORD})
    async with connect(service.url, response.json()["access_token"]) as client:
        yield email, client


@pytest.mark.parametrize("how", ["disabled", "made an auditor"])
async def test_the_job_of_a_user_who_may_not_decide_any_more_stops(
    decide, ended, register, billing, users, colleague, how
):
    email, client = colleague
    await billing.set(latency_ms=700)
    candidates = [await register() for _ in range(14)]
    job_id = (await decide("approve", items_of(candidates), client=client)).json()["job_id"]
    await asyncio.sleep(0.3)
    await (users.disable(email) if how == "disabled" else users.set_role(email, Role.AUDITOR))

    await ended(job_id)
    await asyncio.sleep(1.5)  # for those that had been started
    job = await ended(job_id)

    assert (job["state"], job["cancel_reason"]) == ("cancelled", "actor_not_allowed")
    statuses = [result["status"] for result in job["results"]]
    assert set(statuses) == {"approved", "cancelled"}
    assert job["created_by"]["name"] == email


async def test_an_admin_key_decides_and_stops_when_it_expires(
    decide, ended, register, admin, connect, service, database
):
    made = (await admin.post("/api-keys", json={"name": "ERP", "role": "admin"})).json()
    async with connect(service.url, made["key"]) as program:
        first = await decide("reject", items_of([await register()]), client=program)
        assert (await ended(first.json()["job_id"]))["summary"] == {"rejected": 1}
        second = await decide("reject", items_of([await register() for _ in range(200)]), client=program)
        await database.execute(
            "UPDATE api_keys SET created_at = now() - interval '2 days', expires_at = now() - interval '1 s' "
            "WHERE id = $1",
            made["api_key_id"],
        )
        job = await ended(second.json()["job_id"])
    assert (job["state"], job["cancel_reason"]) == ("cancelled", "actor_not_allowed")


async def test_the_job_of_a_revoked_key_stops(ended, register, database):
    key_id, other = uuid4(), uuid4()
    await database.execute(
        "INSERT INTO api_keys (id, name, key_hash, prefix, role, revoked_at) "
        "VALUES ($1, 'ERP', sha256($2), 'prk_', 'admin', now())",
        *(key_id, key_id.bytes),
    )
    candidate = await register()
    await database.execute(
        "INSERT INTO jobs (id, kind, actor_kind, actor_id, parameters, total) "
        "VALUES ($1, 'candidates.reject', 'api_key', $2, '{\"reason\": null, \"notify\": true}', 1)",
        *(other, key_id),
    )
    await database.execute("INSERT INTO job_items VALUES ($1, 0, $2)", other, candidate["candidate_id"])

    job = await ended(other)

    assert (job["cancel_reason"], job["created_by"]) == (
        "actor_not_allowed",
        {"kind": "api_key", "id": str(key_id), "name": "ERP"},
    )
    await database.execute("DELETE FROM jobs WHERE actor_kind = 'api_key'")


async def test_the_selection_takes_every_filter_of_the_list(decide, ended, register, admin):
    word = f"w{uuid4().hex[:10]}"
    wanted = await register(company_name=f"{word} Obst", truck_count=9, products=["mangoes"])
    await register(company_name=f"{word} Obst Zwei", truck_count=3, products=["mangoes"])
    filters = {"q": word, "product": "mangoes", "trucks_min": 5, "registered_from": "2026-01-01T00:00:00Z"}
    listed = (await admin.get("/candidates", params=filters | {"status": "pending"})).json()["candidates"]

    job = await ended((await decide("reject", selection=filters)).json()["job_id"])

    assert [result["candidate_id"] for result in job["results"]] == [wanted["candidate_id"]]
    assert [one["candidate_id"] for one in listed] == [wanted["candidate_id"]]


async def test_a_job_that_is_posted_in_one_process_is_worked_on_in_another(
    decide, ended, register, settings, run_service, tokens, connect, database
):
    async with run_service(settings.model_copy(update={"workers": False})) as idle:
        async with connect(idle.url, tokens[Role.ADMIN]) as client:
            candidates = [await register() for _ in range(3)]
            response = await decide("reject", items_of(candidates), client=client, wait=10)
    assert (response.status_code, response.json()["summary"]) == (200, {"rejected": 3})


async def test_the_reason_is_kept_only_until_the_job_ends(decide, ended, register, migrated_database_url):
    response = await decide("reject", items_of([await register()]), reason="Herr Meier sagt nein", wait=10)
    connection = await asyncpg.connect(migrated_database_url)
    kept = await connection.fetch("SELECT parameters FROM jobs WHERE id::text = $1", response.json()["job_id"])
    await connection.close()
    assert [tuple(row) for row in kept] == [(None,)]
