"""Status links: created at registration, stored as hashes, replaced by admins."""

from __future__ import annotations

import asyncio
import hashlib
import re
from uuid import uuid4

import httpx
import pytest

from provider_registration.db.database import Database
from provider_registration.privacy.service import erase_person

CANDIDATES = "/candidates"
STATUS_URL = re.compile(r"/applications/([A-Za-z0-9_-]{43})")
KEPT = "SELECT status_secret_hash FROM candidates WHERE id = $1"


def secret_of(response):
    """The secret in the link of a response."""
    match = STATUS_URL.fullmatch(response.json()["status_url"])
    assert match, response.text
    return match[1]


def hash_of(secret):
    return hashlib.sha256(secret.encode()).digest()


@pytest.fixture
def registered(anonymous, registration):
    """Register a company and return the response."""

    async def registered(**changes):
        return await anonymous.post(CANDIDATES, json=registration(**changes))

    return registered


@pytest.fixture
def replace(admin):
    """Request a new link for a candidate."""

    async def replace(candidate_id):
        return await admin.post(f"{CANDIDATES}/{candidate_id}/status-link")

    return replace


async def test_of_the_secret_only_the_hash_is_kept(registered, database):
    response = await registered()

    [kept] = [dict(row) for row in await database.fetch("SELECT * FROM candidates WHERE id = $1", id_of(response))]
    assert kept["status_secret_hash"] == hash_of(secret_of(response))
    assert secret_of(response) not in str(kept)


def id_of(response):
    return response.json()["candidate_id"]


async def test_concurrent_registrations_get_their_own_links(registered, database):
    responses = await asyncio.gather(*(registered() for _ in range(100)))

    assert len({secret_of(response) for response in responses}) == 100
    for response in responses:
        assert await database.fetchval(KEPT, id_of(response)) == hash_of(secret_of(response))


async def test_reading_a_candidate_shows_no_link(registered, viewer):
    response = await registered()

    record = await viewer.get(f"{CANDIDATES}/{id_of(response)}")
    page = await viewer.get(CANDIDATES)

    for answer in (record, page):
        assert secret_of(response) not in answer.text
        assert hash_of(secret_of(response)).hex() not in answer.text
        assert "status_" not in answer.text


async def test_a_new_link_takes_the_place_of_the_old_one(registered, replace, database):
    first = await registered()

    second = await replace(id_of(first))

    assert second.status_code == 200
    assert secret_of(second) != secret_of(first)
    assert await database.fetchval(KEPT, id_of(first)) == hash_of(secret_of(second))


async def test_a_candidate_from_before_there_were_links_gets_one(registered, replace, database):
    candidate_id = id_of(await registered())
    await database.execute("UPDATE candidates SET status_secret_hash = NULL WHERE id = $1", candidate_id)

    response = await replace(candidate_id)

    assert await database.fetchval(KEPT, candidate_id) == hash_of(secret_of(response))


async def test_a_new_link_changes_nothing_that_is_decided_on(register, replace, admin):
    before = await register()
    path = f"{CANDIDATES}/{before['candidate_id']}"

    await replace(before["candidate_id"])

    assert (await admin.get(path)).json() == before
    decision = await admin.post(f"{path}/reject", headers={"If-Match": '"1"'})
    assert decision.status_code == 200


async def test_a_decision_keeps_the_link(registered, admin, database):
    response = await registered()

    await admin.post(f"{CANDIDATES}/{id_of(response)}/reject")

    assert await database.fetchval(KEPT, id_of(response)) == hash_of(secret_of(response))


async def test_a_link_for_an_unknown_candidate_is_not_found(replace):
    response = await replace(uuid4())

    assert response.status_code == 404
    assert response.json()["type"].endswith(":candidate-not-found")


async def test_an_erased_candidate_gets_no_link(register, replace, settings):
    candidate = await register()
    database = Database(settings.database_url, pool_size=1)
    await erase_person(database, candidate["contact_email"])
    await database.close()

    response = await replace(candidate["candidate_id"])

    assert response.status_code == 404
    assert response.json()["type"].endswith(":candidate-not-found")


async def test_a_link_for_what_is_no_id_is_refused(replace):
    response = await replace("first")

    assert response.status_code == 422


async def test_without_public_pages_there_are_no_links(settings, run_service, registration, tokens, database):
    async with (
        run_service(settings.model_copy(update={"public_pages": False})) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        registered = await client.post(CANDIDATES, json=registration())
        headers = {"Authorization": f"Bearer {tokens['admin']}"}
        replaced = await client.post(f"{CANDIDATES}/{id_of(registered)}/status-link", headers=headers)

    assert registered.status_code == 201
    assert "status_url" not in registered.json()
    assert await database.fetchval(KEPT, id_of(registered)) is None
    assert replaced.status_code == 404
