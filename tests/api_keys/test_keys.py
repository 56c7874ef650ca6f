"""API keys: created once shown, used as bearer tokens, expired, revoked; and what is recorded."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from provider_registration.auth.keys import is_api_key
from provider_registration.auth.models import Role
from provider_registration.privacy.service import erase_person
from tests.running_service import serving
from tests.service import PASSWORD

SOON = 5.0  # seconds; a machine that is busy with tests may block for a second


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def create(admin):
    """Create a key through the API; return the response's body."""

    async def create(role=Role.ADMIN, **more):
        response = await admin.post("/api-keys", json={"name": f"ERP {uuid4().hex}", "role": str(role), **more})
        assert response.status_code == 201, response.text
        return response.json()

    return create


async def status_of(client, key, path="/candidates"):
    return (await client.get(path, headers=bearer(key))).status_code


async def until(condition):
    """Wait until a condition is true."""
    async with asyncio.timeout(SOON):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_a_key_may_expire_at_the_end_of_time(admin, anonymous, create):
    made = await create(role="viewer", expires_at="9999-12-31T23:59:59.999999Z")  # PostgreSQL has an infinity as well

    assert made["expires_at"].startswith("9999-12-31T23:59:59.99999")
    assert made["state"] == "active"
    assert (await admin.get(f"/api-keys/{made['api_key_id']}")).json()["expires_at"] == made["expires_at"]
    assert (await admin.get("/api-keys")).status_code == 200
    assert await status_of(anonymous, made["key"]) == 200


async def test_a_key_is_shown_once_and_only_its_hash_is_stored(admin, create, database):
    made = await create(role="auditor", name="  ERP import ")

    assert is_api_key(made["key"])
    assert (made["name"], made["role"], made["state"]) == ("ERP import", "auditor", "active")
    assert made["created_by"]["name"] == "admin@example.com"
    read = (await admin.get(f"/api-keys/{made['api_key_id']}")).json()
    assert read == {name: value for name, value in made.items() if name != "key"}
    assert made["key"].startswith(read["prefix"])
    row = await database.fetchrow("SELECT * FROM api_keys WHERE id = $1", made["api_key_id"])
    assert row["key_hash"] == hashlib.sha256(made["key"].encode()).digest()
    everything = await database.fetchval("SELECT json_agg(api_keys)::text FROM api_keys")
    assert made["key"] not in everything
    audit = await database.fetchval("SELECT json_agg(audit_events)::text FROM audit_events")
    assert made["prefix"] not in audit


async def test_the_list_is_paged_newest_first(admin, create):
    made = [await create() for _ in range(3)]

    page = (await admin.get("/api-keys", params={"limit": 2})).json()

    assert [each["api_key_id"] for each in page["api_keys"]] == [each["api_key_id"] for each in made[:0:-1]]
    assert page["pagination"]["total"] >= 3
    assert "key" not in page["api_keys"][0]


async def test_cursor_and_link_lead_through_all_keys_once_while_others_are_added(admin, create):
    made = [(await create())["api_key_id"] for _ in range(3)]
    link, seen = "/api-keys?limit=2", []
    while link:
        page = await admin.get(link)
        seen += [each["api_key_id"] for each in page.json()["api_keys"]]
        assert page.links["first"]["url"] == "/api-keys?limit=2"
        link = page.links.get("next", {}).get("url")
        await create()

    assert seen[:3] == made[::-1]
    assert len(seen) == len(set(seen))
    assert page.json()["pagination"]["next_cursor"] is None
    assert page.json()["pagination"]["offset"] is None


@pytest.mark.parametrize(
    ("role", "statuses"), [("viewer", (200, 403, 403)), ("auditor", (200, 200, 403)), ("admin", (200, 200, 200))]
)
async def test_a_key_may_do_what_its_role_may(anonymous, create, register, role, statuses):
    key, candidate = (await create(role=role))["key"], await register()
    path = f"/candidates/{candidate['candidate_id']}"

    found = [await status_of(anonymous, key, each) for each in (path, "/audit")]
    rejection = await anonymous.post(f"{path}/reject", headers=bearer(key))

    assert (*found, rejection.status_code) == statuses


async def test_history_audit_and_export_name_the_key(anonymous, admin, create, register):
    made, candidate = await create(), await register()
    path = f"/candidates/{candidate['candidate_id']}"
    actor = {"kind": "api_key", "id": made["api_key_id"], "name": made["name"]}

    await anonymous.post(f"{path}/approve", headers=bearer(made["key"]))
    await anonymous.delete(f"/api-keys/{made['api_key_id']}", headers=bearer(made["key"]))
    await admin.delete(f"/api-keys/{made['api_key_id']}")

    history = (await admin.get(f"{path}/events")).json()["events"]
    assert [event["actor"] for event in history[:2]] == [actor, actor]
    approval = (await admin.get(f"{path}/approval/events")).json()["events"]
    assert [(event["actor"], event["user_id"]) for event in approval] == 2 * [(actor, None)]
    acts = (await admin.get("/audit", params={"actor": made["api_key_id"]})).json()["events"]
    assert {event["type"] for event in acts} == {"candidate.approval_requested", "candidate.approved"}
    assert made["name"] in (await admin.get("/audit.csv", params={"actor": made["api_key_id"]})).text
    managed = (await admin.get("/audit", params={"type": "api_key.revoked"})).json()["events"]
    assert managed[0]["subject"] == {"kind": "api_key", "id": made["api_key_id"], "name": made["name"]}
    assert managed[0]["actor"]["name"] == "admin@example.com"


async def test_people_manage_keys_and_their_own_sessions(anonymous, create):
    made = await create()
    path = f"/api-keys/{made['api_key_id']}"
    for method, where in (("POST", "/api-keys"), ("DELETE", path), ("POST", "/auth/logout")):
        body = {"json": {"name": "Another", "role": "admin"}} if where == "/api-keys" else {}
        response = await anonymous.request(method, where, headers=bearer(made["key"]), **body)
        assert response.status_code == 403
        assert response.json()["type"].endswith(":person-required")

    assert await status_of(anonymous, made["key"], path) == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": ""}, "invalid-request"),
        ({"name": "x" * 101}, "invalid-request"),
        ({"role": "owner"}, "invalid-request"),
        ({"expires_at": "2026-03-14"}, "invalid-request"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, "invalid-request"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expiry-in-the-past"),
        ({"key": "prk_mine"}, "invalid-request"),
    ],
)
async def test_a_key_that_cannot_be_is_refused(admin, change, code):
    response = await admin.post("/api-keys", json={"name": "ERP", "role": "viewer", **change})

    assert response.status_code == 422
    assert response.json()["type"].endswith(f":{code}")


async def test_a_revoked_key_is_refused_at_once_and_stays_listed(anonymous, admin, create):
    made = await create()
    path = f"/api-keys/{made['api_key_id']}"
    assert await status_of(anonymous, made["key"]) == 200

    responses = await asyncio.gather(*(admin.delete(path) for _ in range(5)))

    assert {response.status_code for response in responses} == {204}
    assert await status_of(anonymous, made["key"]) == 401
    assert (await admin.get(path)).json()["state"] == "revoked"
    revoked = (await admin.get("/audit", params={"type": "api_key.revoked"})).json()["events"]
    assert [event["subject"]["id"] for event in revoked].count(made["api_key_id"]) == 1
    assert (await admin.delete(f"/api-keys/{uuid4()}")).status_code == 404


async def test_every_process_learns_of_a_revocation(anonymous, admin, create, settings):
    made = await create()
    async with serving(settings) as other, httpx.AsyncClient(base_url=other.url) as client:
        assert await status_of(client, made["key"]) == 200

        await admin.delete(f"/api-keys/{made['api_key_id']}")

        async def is_refused():
            return await status_of(client, made["key"]) == 401

        await until(is_refused)


async def test_a_key_works_until_it_expires(anonymous, admin, create):
    expires_at = datetime.now(UTC) + timedelta(seconds=1.5)
    made = await create(expires_at=expires_at.isoformat())
    assert await status_of(anonymous, made["key"]) == 200

    await asyncio.sleep((expires_at - datetime.now(UTC)).total_seconds())

    assert await status_of(anonymous, made["key"]) == 401
    assert (await admin.get(f"/api-keys/{made['api_key_id']}")).json()["state"] == "expired"
    assert (await admin.delete(f"/api-keys/{made['api_key_id']}")).status_code == 204


@pytest.mark.parametrize(
    "changed",
    [
        str.upper,
        str.lower,
        lambda key: key[:-1],
        lambda key: key + "x",
        lambda key: f"{key} {key}",
        lambda key: "PRK_" + key[4:],
        lambda key: key[4:],
        lambda key: key[:4] + "x" * 43,
        lambda key: key[:4] + "x" * 10_000,
        lambda key: key.replace("prk_", "prk_\u0430".encode().decode("latin-1"))[:47],
        lambda key: "prk_",
    ],
)
async def test_nothing_but_the_key_is_accepted(anonymous, create, changed):
    key = (await create())["key"]
    header = f"Bearer {changed(key)}".encode("latin-1")

    response = await anonymous.get("/candidates", headers={"Authorization": header})

    assert response.status_code == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_the_scheme_is_case_insensitive(anonymous, create, scheme):
    key = (await create())["key"]

    assert (await anonymous.get("/candidates", headers={"Authorization": f"{scheme} {key}"})).status_code == 200
    assert (await anonymous.get("/candidates", headers={"Authorization": f"{scheme}  {key}"})).status_code == 200
    assert (await anonymous.get("/candidates", headers={"Authorization": f"Basic {key}"})).status_code == 401
    assert (await anonymous.get("/candidates", params={"access_token": key})).status_code in (401, 422)


async def test_a_key_outlives_the_user_who_created_it(service, anonymous, users, database, migrated_database_url):
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, Role.ADMIN)
    token = (await anonymous.post("/auth/login", json={"username": email, "password": PASSWORD})).json()["access_token"]
    made = (await anonymous.post("/api-keys", headers=bearer(token), json={"name": "ERP", "role": "admin"})).json()

    await users.disable(email)
    await erase_person(users._database, email)

    assert await status_of(anonymous, made["key"], f"/api-keys/{made['api_key_id']}") == 200
    read = (await anonymous.get(f"/api-keys/{made['api_key_id']}", headers=bearer(made["key"]))).json()
    assert email not in json.dumps(read)


async def test_a_stream_of_a_key_ends_soon_after_it_is_revoked(service, admin, create):
    made = await create(role="auditor")
    async with httpx.AsyncClient(base_url=service.url) as client:
        async with client.stream("GET", "/events/stream", headers=bearer(made["key"])) as response:
            assert response.status_code == 200
            await admin.delete(f"/api-keys/{made['api_key_id']}")
            async with asyncio.timeout(SOON):
                async for _ in response.aiter_lines():
                    pass


async def test_a_stream_of_a_key_ends_soon_after_it_expires(service, create):
    made = await create(role="auditor", expires_at=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    async with httpx.AsyncClient(base_url=service.url) as client:
        async with client.stream("GET", "/events/stream", headers=bearer(made["key"])) as response:
            assert response.status_code == 200
            async with asyncio.timeout(SOON):
                async for _ in response.aiter_lines():
                    pass


async def test_requests_are_counted_for_the_key_once_it_is_known(settings, create):
    keys = [(await create(role="viewer"))["key"] for _ in range(2)]
    async with (
        serving(settings.model_copy(update={"rate_limit_default": "4/minute"})) as limited,
        httpx.AsyncClient(base_url=limited.url) as client,
    ):
        first = [await status_of(client, keys[0]) for _ in range(6)]
        second = [await status_of(client, keys[1]) for _ in range(6)]
        unknown = [await status_of(client, f"prk_{number:043}") for number in range(4)]

    assert first == second == [*5 * [200], 429]  # one more of each was counted for the IP address
    assert unknown == [401, 401, 429, 429]
