"""A registration that is repeated with its Idempotency-Key."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import pytest

from provider_registration.idempotency.models import Key
from provider_registration.privacy.service import erase_person, export_person
from tests.idempotency.requests import a_key, code_of, sent, told
from tests.service import a_registration, make_settings

SOON = 5.0  # seconds, on a busy machine; a held key is held for ever


async def test_fifty_at_once_register_once(anonymous, database):
    body, key = a_registration(), a_key()
    responses = await asyncio.gather(*(anonymous.post("/candidates", json=body, headers=sent(key)) for _ in range(50)))
    repeated = await anonymous.post("/candidates", json=body, headers=sent(key))

    assert {response.status_code for response in responses} <= {201, 409}
    refused = [response for response in responses if response.status_code == 409]
    assert {code_of(response) for response in refused} <= {"idempotency-key-in-use"}
    assert all(int(response.headers["Retry-After"]) > 0 for response in refused)
    registered = {told(response) for response in [*responses, repeated] if response.status_code == 201}
    assert len(registered) == 1
    count = await database.fetchval("SELECT count(*) FROM candidates WHERE contact_email = $1", body["contact_email"])
    assert count == 1


async def test_a_repeat_has_the_same_response_whatever_happened_meanwhile(anonymous, admin):
    body, key = a_registration(location='Kö"ln\\ 🍎', phone=None, language="es"), a_key()
    first = await anonymous.post("/candidates", json=body, headers=sent(key))
    path = f"/candidates/{first.json()['candidate_id']}"
    await admin.post(f"{path}/reject", json={"reason": "No cold chain"})

    repeated = await anonymous.post("/candidates", json=body, headers=sent(f'"{key}"'))

    assert told(repeated) == told(first)
    assert first.status_code == 201
    assert (first.headers.get("Idempotency-Replayed"), repeated.headers["Idempotency-Replayed"]) == (None, "true")
    page = await anonymous.get(repeated.json()["status_url"])
    assert page.status_code == 200


async def test_a_repeat_does_not_show_an_unfinished_approval(anonymous, admin, billing):
    body, key = a_registration(), a_key()
    first = await anonymous.post("/candidates", json=body, headers=sent(key))
    await billing.fail("commit_then_500", names=[body["company_name"]])
    assert (await admin.post(f"/candidates/{first.json()['candidate_id']}/approve")).status_code == 502

    assert told(await anonymous.post("/candidates", json=body, headers=sent(key))) == told(first)


async def test_the_content_counts_and_not_its_spelling(anonymous):
    body, key = a_registration(), a_key()
    headers = sent(key) | {"Content-Type": "application/json"}
    first = await anonymous.post("/candidates", json=body, headers=headers)
    spelled = json.dumps(dict(reversed(body.items())), indent=2) + "\n"

    assert told(await anonymous.post("/candidates", content=spelled, headers=headers)) == told(first)


@pytest.mark.parametrize("change", [{"truck_count": 8}, {"location": None}, {"language": "es"}])
async def test_another_body_is_refused(anonymous, change):
    body, key = a_registration(), a_key()
    first = await anonymous.post("/candidates", json=body, headers=sent(key))

    refused = await anonymous.post("/candidates", json=body | change, headers=sent(key))

    assert (refused.status_code, code_of(refused)) == (422, "idempotency-key-reused")
    assert told(await anonymous.post("/candidates", json=body, headers=sent(key))) == told(first)


async def test_the_key_counts_for_one_address(anonymous):
    key = a_key()
    responses = [await anonymous.post("/candidates", json=a_registration(), headers=sent(key)) for _ in range(2)]

    assert [response.status_code for response in responses] == [201, 201]
    assert responses[0].json()["status_url"] != responses[1].json()["status_url"]


async def test_a_refusal_is_kept_too(anonymous):
    body, key = a_registration(), a_key()
    await anonymous.post("/candidates", json=body)

    first, repeated = [await anonymous.post("/candidates", json=body, headers=sent(key)) for _ in range(2)]

    assert code_of(first) == "email-taken"
    assert told(repeated) == told(first)
    assert repeated.headers["Idempotency-Replayed"] == "true"
    reused = await anonymous.post("/candidates", json=body | {"truck_count": 8}, headers=sent(key))
    assert reused.status_code == 422


async def test_an_invalid_request_uses_no_key(anonymous):
    body, key = a_registration(), a_key()
    assert (await anonymous.post("/candidates", json=body | {"truck_count": 0}, headers=sent(key))).status_code == 422

    assert (await anonymous.post("/candidates", json=body, headers=sent(key))).status_code == 201


@pytest.mark.parametrize("key", ["", "short", "k" * 256, "with a space in it", '"quoted-once-only', '"k"'])
async def test_a_malformed_key_is_refused(anonymous, key):
    refused = await anonymous.post("/candidates", json=a_registration(), headers=sent(key))

    assert (refused.status_code, code_of(refused)) == (400, "idempotency-key-invalid")


async def test_two_keys_are_refused(anonymous):
    headers = [("Idempotency-Key", a_key()), ("Idempotency-Key", a_key())]
    refused = await anonymous.post("/candidates", json=a_registration(), headers=headers)

    assert code_of(refused) == "idempotency-key-invalid"


async def test_a_held_key_keeps_nobody_waiting(anonymous, holding):
    body, key = a_registration(), a_key()
    held = Key.of("registration", body["contact_email"], key, fingerprint="")
    first = await anonymous.post("/candidates", json=a_registration(), headers=sent(a_key()))
    hold = (
        "INSERT INTO candidates (company_name, contact_email, contact_email_canonical, products, truck_count, "
        "capacity_tons_per_day) SELECT 'x', 'x' || $1, $1, '{apples}', 1, 1 WHERE pg_try_advisory_xact_lock($2)"
    )
    async with holding(hold, body["contact_email"], held.lock):
        started = asyncio.get_running_loop().time()
        others = [
            anonymous.post("/candidates", json=a_registration(), headers=headers)
            for headers in ({}, sent(a_key()), {}, sent(a_key()))
        ]
        refused, *registered = await asyncio.gather(
            anonymous.post("/candidates", json=body, headers=sent(key)), *others
        )
        seconds = asyncio.get_running_loop().time() - started

    assert first.status_code == 201
    assert code_of(refused) == "idempotency-key-in-use"
    assert [response.status_code for response in registered] == [201] * 4
    assert seconds < SOON
    assert (await anonymous.post("/candidates", json=body, headers=sent(key))).status_code == 201


async def test_after_a_day_the_address_is_taken(anonymous, database):
    body, key = a_registration(), a_key()
    first = await anonymous.post("/candidates", json=body, headers=sent(key))
    await database.execute(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE candidate_id = $1",
        UUID(first.json()["candidate_id"]),
    )

    repeated = await anonymous.post("/candidates", json=body, headers=sent(key))

    assert code_of(repeated) == "email-taken"


async def test_two_processes_and_a_rotated_key_tell_the_same(
    settings, run_service, connect, anonymous, migrated_database_url, shared_billing_url
):
    rotated = make_settings(
        migrated_database_url,
        shared_billing_url,
        jwt_secret_key=uuid4().hex + uuid4().hex,
        jwt_previous_secret_key=settings.jwt_secret_key.get_secret_value(),
    )
    without = rotated.model_copy(update={"jwt_previous_secret_key": None})
    body, key = a_registration(), a_key()
    first = await anonymous.post("/candidates", json=body, headers=sent(key))
    async with run_service(rotated) as service, connect(service.url) as other:
        assert told(await other.post("/candidates", json=body, headers=sent(key))) == told(first)
    async with run_service(without) as service, connect(service.url) as other:
        repeated = await other.post("/candidates", json=body, headers=sent(key))

    expected = first.json()
    del expected["status_url"]
    assert (repeated.status_code, repeated.json()) == (201, expected)


async def test_erasure_deletes_what_is_kept(anonymous, pool, database):
    body, keys = a_registration(), [a_key(), a_key()]
    first = await anonymous.post("/candidates", json=body, headers=sent(keys[0]))
    await anonymous.post("/candidates", json=body, headers=sent(keys[1]))  # refused
    exported = await export_person(pool, body["contact_email"])
    await erase_person(pool, body["contact_email"])

    assert len(exported["candidate"]["idempotency_keys"]) == 2
    candidate_id = UUID(first.json()["candidate_id"])
    assert not await database.fetchval("SELECT count(*) FROM idempotency_keys WHERE candidate_id = $1", candidate_id)
    again = await anonymous.post("/candidates", json=body, headers=sent(keys[0]))
    assert again.status_code == 201
    assert again.json()["candidate_id"] != first.json()["candidate_id"]


async def test_nothing_kept_shows_who_registered(anonymous, database):
    body, key = a_registration(), a_key()
    first = await anonymous.post("/candidates", json=body, headers=sent(key))

    row = await database.fetchrow(
        "SELECT * FROM idempotency_keys WHERE candidate_id = $1", UUID(first.json()["candidate_id"])
    )
    text = " ".join(map(str, row.values()))
    secret = first.json()["status_url"].rpartition("/")[2]
    assert not [value for value in (*body.values(), key, secret) if isinstance(value, str) and value in text]
