"""Decisions that are repeated with their Idempotency-Key."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from provider_registration.auth.models import Role
from provider_registration.idempotency.models import Key
from provider_registration.idempotency.upkeep import prune
from provider_registration.privacy.service import erase_person
from tests.idempotency.requests import a_key, code_of, sent, told

REASON = {"reason": "No cold chain"}
KEYS_OF = "SELECT answer FROM idempotency_keys WHERE candidate_id = $1"


@pytest.fixture
async def candidate(register):
    return await register()


@pytest.fixture
def path(candidate):
    return f"/candidates/{candidate['candidate_id']}"


@pytest.fixture
def events_of(database):
    """The types of a candidate's events after its registration."""

    async def events_of(candidate):
        rows = await database.fetch(
            "SELECT type FROM candidate_events WHERE candidate_id = $1 ORDER BY id", UUID(candidate["candidate_id"])
        )
        return [row["type"] for row in rows][1:]

    return events_of


@pytest.mark.parametrize("decision", ["reject", "approve"])
async def test_fifty_at_once_decide_once(admin, billing, candidate, path, events_of, decision):
    key = a_key()
    responses = await asyncio.gather(*(admin.post(f"{path}/{decision}", headers=sent(key)) for _ in range(50)))
    repeated = await admin.post(f"{path}/{decision}", headers=sent(key))

    assert {response.status_code for response in responses} <= {200, 409}
    assert {code_of(each) for each in responses if each.status_code == 409} <= {"idempotency-key-in-use"}
    assert len({told(response) for response in [*responses, repeated] if response.status_code == 200}) == 1
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert (await events_of(candidate)).count(f"candidate.{decision.removesuffix('e')}ed") == 1
    assert len(await billing.providers(candidate["company_name"])) == (1 if decision == "approve" else 0)


async def test_fifty_in_two_processes_reject_once(admin, settings, run_service, connect, tokens, path):
    key = a_key()
    async with run_service(settings) as service, connect(service.url, tokens[Role.ADMIN]) as other:
        clients = [admin, other] * 25
        responses = await asyncio.gather(
            *(client.post(f"{path}/reject", json=REASON, headers=sent(key)) for client in clients)
        )
        repeated = [await client.post(f"{path}/reject", json=REASON, headers=sent(key)) for client in (admin, other)]

    assert {response.status_code for response in responses} <= {200, 409}
    assert len({told(response) for response in [*responses, *repeated] if response.status_code == 200}) == 1


@pytest.mark.parametrize(
    ("decision", "body", "other"),
    [
        ("reject", REASON, {"reason": "Too far"}),
        ("reject", REASON, REASON | {"notify": False}),
        ("reject", REASON, {}),
        ("approve", {}, {"notify": False}),
    ],
)
async def test_another_body_is_refused(admin, path, decision, body, other):
    key = a_key()
    first = await admin.post(f"{path}/{decision}", json=body, headers=sent(key))

    refused = await admin.post(f"{path}/{decision}", json=other, headers=sent(key))

    assert (first.status_code, refused.status_code, code_of(refused)) == (200, 422, "idempotency-key-reused")
    assert told(await admin.post(f"{path}/{decision}", json=body, headers=sent(f'"{key}"'))) == told(first)


async def test_no_body_is_the_same_as_an_empty_one(admin, path):
    key = a_key()
    first = await admin.post(f"{path}/reject", headers=sent(key))

    assert told(await admin.post(f"{path}/reject", json={"reason": None}, headers=sent(key))) == told(first)


async def test_the_key_counts_for_one_caller_and_path(admin, service, connect, users, register, path):
    key, other = a_key(), await register()
    await admin.post(f"{path}/reject", headers=sent(key))

    elsewhere = await admin.post(f"/candidates/{other['candidate_id']}/reject", headers=sent(key))
    email = f"{uuid4().hex}@example.com"
    await users.create(email, "correct horse battery staple", Role.ADMIN)
    async with connect(service.url) as client:
        answer = await client.post("/auth/login", json={"username": email, "password": "correct horse battery staple"})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        by_another = await client.post(f"{path}/reject", headers=sent(key))

    assert elsewhere.status_code == 200
    assert code_of(by_another) == "candidate-not-pending"


@pytest.mark.parametrize("decision", ["reject", "approve"])
async def test_a_final_refusal_is_kept(admin, register, path, decision):
    other, keys, unknown = f"/candidates/{(await register())['candidate_id']}", [a_key(), a_key(), a_key()], uuid4()
    await admin.post(f"{other}/reject")
    stale = {"If-Match": '"7"'}

    for _ in range(2):
        late = await admin.post(f"{other}/{decision}", headers=sent(keys[0]))
        out_of_date = await admin.post(f"{path}/{decision}", headers=sent(keys[1]) | stale)
        missing = await admin.post(f"/candidates/{unknown}/{decision}", headers=sent(keys[2]))
        codes = [code_of(each) for each in (late, out_of_date, missing)]
        assert codes == ["candidate-not-pending", "version-mismatch", "candidate-not-found"]
    assert {each.headers["Idempotency-Replayed"] for each in (late, out_of_date, missing)} == {"true"}

    corrected = await admin.post(f"{path}/{decision}", headers=sent(keys[1]) | {"If-Match": '"1"'})
    assert code_of(corrected) == "idempotency-key-reused"


async def test_a_passing_conflict_is_not_kept(admin, billing, candidate, path):
    key = a_key()
    await billing.fail("commit_then_500", names=[candidate["company_name"]])
    assert (await admin.post(f"{path}/approve")).status_code == 502
    refused = await admin.post(f"{path}/reject", headers=sent(key))
    await billing.fail("none")
    await admin.post(f"{path}/approval/retry")

    assert code_of(refused) in ("approval-unfinished", "approval-in-progress")
    assert code_of(await admin.post(f"{path}/reject", headers=sent(key))) == "candidate-not-pending"


async def test_a_refused_caller_uses_no_key(admin, viewer, anonymous, path):
    key = a_key()
    assert (await viewer.post(f"{path}/reject", headers=sent(key))).status_code == 403
    assert (await anonymous.post(f"{path}/reject", headers=sent(key))).status_code == 401
    assert (await anonymous.post(f"{path}/reject", headers=sent("k"))).status_code == 401
    assert code_of(await admin.post(f"{path}/reject", headers=sent("k"))) == "idempotency-key-invalid"


async def test_after_a_failure_the_key_begins_anew(admin, billing, candidate, path, database):
    key = a_key()
    await billing.fail("refuse_400", names=[candidate["company_name"]])
    failed = await admin.post(f"{path}/approve", headers=sent(key))
    assert await database.fetchval(KEYS_OF, UUID(candidate["candidate_id"])) is None
    await billing.fail("none")

    approved = await admin.post(f"{path}/approve", headers=sent(key))

    assert (failed.status_code, code_of(failed)) == (502, "approval-failed")
    assert (approved.status_code, approved.headers.get("Idempotency-Replayed")) == (200, None)


async def test_a_name_that_billing_has_already_is_a_final_answer(admin, billing, candidate, path):
    key = a_key()
    await billing.client.post("/provider", json={"name": candidate["company_name"]})

    first, repeated = [await admin.post(f"{path}/approve", headers=sent(key)) for _ in range(2)]

    assert code_of(first) == "provider-name-taken"
    assert told(repeated) == told(first)
    assert len(await billing.requests(candidate["company_name"])) == 2  # the plant and one approval


async def test_while_an_approval_is_unfinished_its_key_is_in_use(admin, billing, candidate, path):
    key = a_key()
    await billing.fail("commit_then_500", names=[candidate["company_name"]])
    waiting = await admin.post(f"{path}/approve", headers=sent(key))
    in_use = await admin.post(f"{path}/approve", headers=sent(key))
    await billing.fail("none")
    await admin.post(f"{path}/approval/retry")
    repeated = await admin.post(f"{path}/approve", headers=sent(key))

    assert code_of(waiting) == "approval-waiting"
    assert (code_of(in_use), int(in_use.headers["Retry-After"]) > 0) == ("idempotency-key-in-use", True)
    assert (repeated.status_code, repeated.json()["status"]) == (200, "approved")
    [provider] = await billing.providers(candidate["company_name"])
    assert repeated.json()["provider_id"] == provider["id"]


@pytest.mark.parametrize("resolution", ["link", "let_go"])
async def test_an_approval_in_doubt_ends_its_key(admin, billing, candidate, path, database, resolution):
    key, candidate_id = a_key(), UUID(candidate["candidate_id"])
    await billing.fail("commit_then_500", names=[candidate["company_name"]])
    await admin.post(f"{path}/approve", headers=sent(key))
    await database.execute(
        "UPDATE approval_intents SET claim_id = NULL, in_doubt_since = now() WHERE candidate_id = $1", candidate_id
    )
    in_use = await admin.post(f"{path}/approve", headers=sent(key))
    await billing.fail("none")
    [provider] = await billing.providers(candidate["company_name"])
    body = {"resolution": resolution} | ({"provider_id": provider["id"]} if resolution == "link" else {})
    assert (await admin.post(f"{path}/approval/resolve", json=body)).status_code == 200
    left = await database.fetchval("SELECT count(*) FROM idempotency_keys WHERE candidate_id = $1", candidate_id)

    repeated = await admin.post(f"{path}/approve", headers=sent(key))

    assert code_of(in_use) == "idempotency-key-in-use"
    assert left == (1 if resolution == "link" else 0)
    assert repeated.status_code == 200
    assert (repeated.headers.get("Idempotency-Replayed") == "true") is (resolution == "link")


async def test_a_held_key_keeps_nobody_waiting(admin, tokens, settings, holding, register, database, path):
    key = a_key()
    others = [await register() for _ in range(6)]
    email = f"{Role.ADMIN}@example.com"
    user_id = await database.fetchval("SELECT id FROM users WHERE email = $1", email)
    held = Key.of(f"user:{user_id}", "POST", f"{path}/reject", key, fingerprint="")
    async with holding("SELECT pg_advisory_xact_lock($1)", held.lock):
        refused, *rejected = await asyncio.gather(
            admin.post(f"{path}/reject", headers=sent(key)),
            *(
                admin.post(f"/candidates/{each['candidate_id']}/reject", headers=headers)
                for each, headers in zip(others, [{}, sent(a_key())] * 3, strict=True)
            ),
        )

    assert code_of(refused) == "idempotency-key-in-use"
    assert {response.status_code for response in rejected} == {200}
    assert (await admin.post(f"{path}/reject", headers=sent(key))).status_code == 200


async def test_erasure_deletes_what_is_kept(admin, pool, candidate, path, database):
    await admin.post(f"{path}/reject", json=REASON, headers=sent(a_key()))
    await erase_person(pool, candidate["contact_email"])

    assert await database.fetchval(KEYS_OF, UUID(candidate["candidate_id"])) is None


async def test_nothing_kept_shows_the_reason(admin, candidate, path, database):
    await admin.post(f"{path}/reject", json=REASON, headers=sent(a_key()))

    assert await database.fetchval(KEYS_OF, UUID(candidate["candidate_id"])) == "{}"


EXPIRING = "SELECT count(*) FROM idempotency_keys WHERE candidate_id = $1"


async def test_the_key_of_an_unfinished_approval_does_not_expire(admin, billing, candidate, path, pool, database):
    key, candidate_id = a_key(), UUID(candidate["candidate_id"])
    await billing.fail("commit_then_500", names=[candidate["company_name"]])
    await admin.post(f"{path}/approve", headers=sent(key))
    await database.execute(
        "UPDATE idempotency_keys SET created_at = now() - interval '9 days' WHERE candidate_id = $1", candidate_id
    )
    async with database.transaction():
        await database.execute("SET LOCAL session_replication_role = replica")  # a trigger would set the time
        await database.execute(
            "UPDATE candidates SET updated_at = now() - interval '9 days' WHERE id = $1", candidate_id
        )
    await prune(pool)
    in_use = await admin.post(f"{path}/approve", headers=sent(key))
    await billing.fail("none")
    await admin.post(f"{path}/approval/retry")
    await prune(pool)

    assert code_of(in_use) == "idempotency-key-in-use"
    assert (await admin.post(f"{path}/approve", headers=sent(key))).status_code == 200


async def test_the_key_of_an_approval_expires_a_day_after_the_decision(
    admin, register, candidate, path, pool, database
):
    candidate_id = UUID(candidate["candidate_id"])
    assert (await admin.post(f"{path}/approve", headers=sent(a_key()))).status_code == 200
    await database.execute(
        "UPDATE idempotency_keys SET created_at = now() - interval '9 days' WHERE candidate_id = $1", candidate_id
    )
    await prune(pool)
    assert await database.fetchval(EXPIRING, candidate_id) == 1

    async with database.transaction():
        await database.execute("SET LOCAL session_replication_role = replica")  # a trigger would set the time
        await database.execute(
            "UPDATE candidates SET updated_at = now() - interval '2 days' WHERE id = $1", candidate_id
        )
    await register()  # another candidate, of today
    await prune(pool)
    assert await database.fetchval(EXPIRING, candidate_id) == 0
