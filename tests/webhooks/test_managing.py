"""Admins manage webhooks: what they can enter, what they see, and what happens without a key."""

from __future__ import annotations

import asyncio
import base64
from uuid import uuid4

import pytest

from provider_registration.webhooks import service as webhooks_service

from .conftest import staffed
from .receivers import answer, receiving


@pytest.fixture(scope="module")
async def client(migrated_database_url, shared_billing_url):
    """An admin of a service for all tests of this file."""
    async with staffed(migrated_database_url, shared_billing_url) as staff:
        yield staff.client
        await staff.database.execute("DELETE FROM webhooks")


@pytest.fixture
async def no_webhooks(database):
    await database.execute("DELETE FROM webhooks")


URL = "https://erp.example/hooks/suppliers"


async def test_a_webhook_can_be_read_but_not_its_secret(client):
    added = (
        await client.post("/webhooks", json={"url": URL, "types": ["candidate.approved"], "description": " ERP "})
    ).json()
    secret = added.pop("secret")

    assert secret.startswith("whsec_")
    assert (added["description"], added["types"], added["enabled"]) == ("ERP", ["candidate.approved"], True)
    assert (await client.get(f"/webhooks/{added['webhook_id']}")).json() == added
    assert added in (await client.get("/webhooks")).json()["webhooks"]
    assert secret not in (await client.get("/webhooks")).text


@pytest.mark.asvs("V11.3")
async def test_the_database_does_not_have_the_secret(client, database):
    added = (await client.post("/webhooks", json={"url": URL})).json()
    rows = await database.fetch("SELECT to_jsonb(webhooks)::text AS row, secret FROM webhooks")

    secret = base64.b64decode(added["secret"].removeprefix("whsec_"))
    assert not any(secret in row["secret"] or secret.hex() in row["row"] for row in rows)


async def test_what_is_changed_is_changed_alone(client):
    added = (await client.post("/webhooks", json={"url": URL, "description": "ERP"})).json()
    path = f"/webhooks/{added['webhook_id']}"

    changed = (await client.patch(path, json={"types": ["candidate.rejected"]})).json()
    assert (changed["types"], changed["description"], changed["url"]) == (["candidate.rejected"], "ERP", URL)
    changed = (await client.patch(path, json={"url": "https://Other.Example", "description": "", "types": []})).json()
    assert (changed["types"], changed["description"], changed["url"]) == ([], "", "https://other.example/")
    assert changed["updated_at"] > added["updated_at"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "https://10.0.0.1/"}, "webhook-url-refused"),
        ({"url": "https://user:password@erp.example/"}, "webhook-url-refused"),
        ({"url": "https://erp.example/\u0000"}, "webhook-url-refused"),
        ({"url": ""}, "invalid-request"),
        ({"url": "https://erp.example/" + "a" * 2000}, "invalid-request"),
        ({"url": URL, "types": ["candidate.invented"]}, "invalid-request"),
        ({"url": URL, "types": ["candidate.approved"] * 100}, "invalid-request"),
        ({"url": URL, "description": "a" * 201}, "invalid-request"),
        ({"url": URL, "secret": "whsec_mine"}, "invalid-request"),
        ({}, "invalid-request"),
    ],
)
async def test_what_makes_no_webhook_is_refused(client, body, code):
    response = await client.post("/webhooks", json=body)

    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (422, code)
    assert "password@" not in response.text


async def test_a_changed_url_is_checked_too(client):
    added = (await client.post("/webhooks", json={"url": URL})).json()

    response = await client.patch(f"/webhooks/{added['webhook_id']}", json={"url": "https://169.254.169.254/"})
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"enabled": True}),
        ("DELETE", "", None),
        ("POST", "/test", None),
        ("POST", "/rotate-secret", None),
        ("POST", "/replay", {"since": "2026-01-01T00:00:00Z"}),
    ],
)
async def test_an_unknown_webhook_is_not_found(client, method, path, body):
    response = await client.request(method, f"/webhooks/{uuid4()}{path}", json=body)

    assert response.status_code == 404
    assert response.json()["type"].endswith(":webhook-not-found")


@pytest.mark.usefixtures("no_webhooks")
async def test_their_number_is_limited_whoever_adds_them_at_once(client, monkeypatch):
    monkeypatch.setattr(webhooks_service, "MAX_WEBHOOKS", 5)
    responses = await asyncio.gather(*(client.post("/webhooks", json={"url": URL}) for _ in range(12)))

    assert sorted(response.status_code for response in responses) == [201] * 5 + [409] * 7


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (answer(204), {"delivered": True, "status": 204, "response": "", "error": None}),
        (answer(500, "no"), {"delivered": False, "status": 500, "response": "no", "error": None}),
    ],
)
async def test_a_test_message_shows_the_response(client, response, expected):
    async with receiving(response) as receiver:
        added = (await client.post("/webhooks", json={"url": f"http://127.0.0.1:{receiver.port}/"})).json()
        result = (await client.post(f"/webhooks/{added['webhook_id']}/test")).json()

    assert expected.items() <= result.items()
    [message] = receiver.messages
    assert message.verified(added["secret"])["type"] == "webhook.test"
    assert message.id.startswith("test_")


async def test_a_test_message_without_a_receiver_says_so(client):
    async with receiving() as receiver:
        port = receiver.port
    added = (await client.post("/webhooks", json={"url": f"http://127.0.0.1:{port}/"})).json()
    result = (await client.post(f"/webhooks/{added['webhook_id']}/test")).json()

    assert (result["delivered"], result["status"]) == (False, None)
    assert result["error"]


async def test_a_disabled_webhook_is_not_replayed(client):
    added = (await client.post("/webhooks", json={"url": URL})).json()
    await client.patch(f"/webhooks/{added['webhook_id']}", json={"enabled": False})

    response = await client.post(f"/webhooks/{added['webhook_id']}/replay", json={"since": "2026-01-01T00:00:00Z"})
    assert response.json()["type"].endswith(":webhook-disabled")


@pytest.mark.parametrize(
    "since", ["2026-01-01T00:00:00", "yesterday", 5, None, "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
)
async def test_a_replay_needs_a_time_with_an_offset(client, since):
    added = (await client.post("/webhooks", json={"url": URL})).json()

    response = await client.post(f"/webhooks/{added['webhook_id']}/replay", json={"since": since})
    assert response.status_code == 422


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
async def test_a_replay_may_begin_at_either_end_of_time(client, since):
    added = (await client.post("/webhooks", json={"url": URL})).json()

    response = await client.post(f"/webhooks/{added['webhook_id']}/replay", json={"since": since})
    assert response.status_code == 202
    assert response.json()["replay_since"][:19] == since[:19]
    assert (await client.get("/webhooks")).status_code == 200


async def test_without_a_key_webhooks_are_off(own_database_url, shared_billing_url):
    async with staffed(own_database_url, shared_billing_url, secrets_key=None) as staff:
        requests = {
            ("GET", "/webhooks"): None,
            ("POST", "/webhooks"): {"url": URL},
            ("GET", f"/webhooks/{uuid4()}"): None,
            ("PATCH", f"/webhooks/{uuid4()}"): {"enabled": True},
            ("DELETE", f"/webhooks/{uuid4()}"): None,
            ("POST", f"/webhooks/{uuid4()}/test"): None,
            ("POST", f"/webhooks/{uuid4()}/rotate-secret"): None,
            ("POST", f"/webhooks/{uuid4()}/replay"): {"since": "2026-01-01T00:00:00Z"},
        }
        for (method, path), body in requests.items():
            response = await staff.client.request(method, path, json=body)
            assert (path, response.status_code) == (path, 409)
            assert response.json()["type"].endswith(":webhooks-off")
        assert await staff.register()


async def test_enabling_a_webhook_that_fails_forgets_its_failures(client, database):
    added = (await client.post("/webhooks", json={"url": URL})).json()
    await database.execute(
        "UPDATE webhooks SET failing_since = now(), last_failure_at = now() WHERE id = $1::text::uuid",
        added["webhook_id"],
    )

    changed = (await client.patch(f"/webhooks/{added['webhook_id']}", json={"enabled": True})).json()
    assert changed["failing_since"] is None


async def test_what_admins_do_is_recorded_with_no_more_of_the_url_than_its_origin(client):
    added = (await client.post("/webhooks", json={"url": f"{URL}?token=4f8a1c"})).json()
    path = f"/webhooks/{added['webhook_id']}"
    result = (await client.patch(path, json={"types": ["candidate.approved"], "enabled": False})).json()
    for nothing in ({}, {"types": ["candidate.approved"], "url": added["url"], "enabled": False, "description": ""}):
        assert (await client.patch(path, json=nothing)).json() == result
    await client.patch(path, json={"types": ["candidate.approved"], "enabled": True})
    await client.patch(path, json={"url": "https://erp.example:8443/4f8a1c", "description": "4f8a1c"})
    await client.post(f"{path}/test")
    await client.post(f"{path}/rotate-secret")
    await client.post(f"{path}/replay", json={"since": "2026-01-01T00:00:00Z"})
    await client.delete(path)

    response = await client.get("/audit?limit=100")
    mine = [each for each in response.json()["events"] if (each["subject"] or {}).get("id") == added["webhook_id"]]
    assert [(each["type"], each["data"]) for each in mine] == [
        ("webhook.deleted", {"origin": "https://erp.example:8443"}),
        ("webhook.replayed", {"since": "2026-01-01T00:00:00Z"}),
        ("webhook.secret_rotated", {}),
        ("webhook.tested", {}),
        ("webhook.changed", {"fields": ["url", "description"], "origin": "https://erp.example:8443"}),
        ("webhook.changed", {"fields": ["enabled"]}),
        ("webhook.changed", {"fields": ["types", "enabled"]}),
        ("webhook.created", {"origin": "https://erp.example"}),
    ]
    assert {each["subject"]["kind"] for each in mine} == {"webhook"}
    assert {each["actor"]["kind"] for each in mine} == {"user"}
    assert "4f8a1c" not in response.text
