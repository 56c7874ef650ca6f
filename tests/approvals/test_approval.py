"""Approval creates exactly one provider in billing, whatever fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

PROBLEM = "application/problem+json"


async def approve(client, candidate, **headers):
    return await client.post(f"/candidates/{candidate['candidate_id']}/approve", headers=headers)


async def read(client, candidate):
    return (await client.get(f"/candidates/{candidate['candidate_id']}")).json()


async def test_approval_makes_the_provider(admin, register, billing):
    candidate = await register()

    response = await approve(admin, candidate)

    [provider] = await billing.providers(candidate["company_name"])
    assert response.status_code == 200
    assert response.json() == {
        "candidate_id": candidate["candidate_id"],
        "status": "approved",
        "provider_id": provider["id"],
    }
    record = await read(admin, candidate)
    assert (record["status"], record["provider_id"], record["version"]) == ("approved", provider["id"], 2)
    assert record["updated_at"] > candidate["updated_at"]
    assert {name: record[name] for name in ("created_at", "products", "contact_email")} == {
        name: candidate[name] for name in ("created_at", "products", "contact_email")
    }


@pytest.mark.asvs("V10.1.1")
async def test_billing_gets_the_name_a_stable_key_and_the_request_id(admin, register, billing):
    candidate = await register()

    await approve(admin, candidate, **{"X-Request-ID": "approval-7"})

    [request] = await billing.requests(candidate["company_name"])
    assert request["name"] == candidate["company_name"]
    assert request["key"]
    assert request["request_id"] == "approval-7"


@pytest.mark.asvs("V2.3.4")
async def test_forty_concurrent_approvals_make_one_provider(admin, register, billing):
    candidate = await register()

    responses = await asyncio.gather(*(approve(admin, candidate) for _ in range(40)))

    counts = Counter(response.status_code for response in responses)
    assert counts[200] == 1
    assert set(counts) <= {200, 400, 409}
    assert len(await billing.providers(candidate["company_name"])) == 1
    assert len(await billing.requests(candidate["company_name"])) == 1
    record = await read(admin, candidate)
    assert (record["status"], record["version"]) == ("approved", 2)


async def test_approval_and_rejection_at_once_leave_one_decision(admin, register, billing):
    await billing.set(latency_ms=20)
    for _ in range(10):
        candidate = await register()
        path = f"/candidates/{candidate['candidate_id']}"

        responses = await asyncio.gather(*(admin.post(f"{path}/{decision}") for decision in ["approve", "reject"] * 4))

        assert Counter(response.status_code for response in responses)[200] == 1
        record = await read(admin, candidate)
        assert record["version"] == 2
        made = len(await billing.providers(candidate["company_name"]))
        assert made == (1 if record["status"] == "approved" else 0)


async def test_second_approval_is_refused(admin, register):
    candidate = await register()
    await approve(admin, candidate)

    response = await approve(admin, candidate)

    assert response.status_code == 400
    assert response.headers["Content-Type"] == PROBLEM
    assert response.json()["type"].endswith(":candidate-not-pending")


@pytest.mark.asvs("V2.3.1")
async def test_approving_a_rejected_candidate_is_refused(admin, register, billing):
    candidate = await register()
    await admin.post(f"/candidates/{candidate['candidate_id']}/reject")

    response = await approve(admin, candidate)

    assert response.status_code == 400
    assert await billing.requests(candidate["company_name"]) == []


async def test_a_viewer_may_not_approve(viewer, register, billing):
    candidate = await register()

    response = await approve(viewer, candidate)

    assert response.status_code == 403
    assert await billing.requests(candidate["company_name"]) == []


async def test_an_unknown_candidate_cannot_be_approved(admin):
    response = await admin.post("/candidates/00000000-0000-4000-8000-000000000000/approve")

    assert response.status_code == 404


async def test_if_match_with_the_version_read_approves(admin, register):
    candidate = await register()
    etag = (await admin.get(f"/candidates/{candidate['candidate_id']}")).headers["ETag"]

    response = await approve(admin, candidate, **{"If-Match": etag})

    assert response.status_code == 200


async def test_a_stale_if_match_changes_nothing(admin, register, billing):
    candidate = await register()

    for stale in ('"2"', 'W/"2"', "nonsense", '"99999999999999999999"', '"9999999999"'):
        response = await approve(admin, candidate, **{"If-Match": stale})
        assert response.status_code == 412, stale

    assert await billing.requests(candidate["company_name"]) == []
    assert (await read(admin, candidate))["status"] == "pending"


async def test_a_passing_fault_is_retried(admin, register, billing):
    candidate = await register()
    await billing.fail("fail_503", times=2, names=[candidate["company_name"]])

    response = await approve(admin, candidate)

    assert response.status_code == 200
    assert len(await billing.requests(candidate["company_name"])) == 3


async def test_a_refusal_by_billing_is_not_retried_and_leaves_the_candidate_free(admin, register, billing):
    candidate = await register()
    await billing.fail("refuse_400", times=1, names=[candidate["company_name"]])

    response = await approve(admin, candidate)

    assert response.status_code == 502
    assert response.json()["type"].endswith(":approval-failed")
    assert len(await billing.requests(candidate["company_name"])) == 1
    assert (await approve(admin, candidate)).status_code == 200


async def test_another_companys_provider_is_never_adopted(admin, register, billing):
    candidate = await register()
    await billing.client.post("/provider", json={"name": candidate["company_name"]})

    response = await approve(admin, candidate)

    assert response.status_code == 409
    assert response.json()["type"].endswith(":provider-name-taken")
    record = await read(admin, candidate)
    assert (record["status"], record["provider_id"]) == ("pending", None)
    assert (await admin.post(f"/candidates/{candidate['candidate_id']}/reject")).status_code == 200


async def test_a_lost_response_is_recovered_by_its_key(admin, register, billing):
    candidate = await register()
    await billing.fail("commit_then_reset", times=1, names=[candidate["company_name"]])

    response = await approve(admin, candidate)

    [provider] = await billing.providers(candidate["company_name"])
    assert response.status_code == 200
    assert response.json()["provider_id"] == provider["id"]


async def test_two_candidates_of_one_name_never_call_billing_at_once(admin, register, billing):
    first = await register()
    second = await register(company_name=first["company_name"])
    await billing.set(latency_ms=300)

    responses = await asyncio.gather(approve(admin, first), approve(admin, second))

    assert sorted(response.status_code for response in responses) == [200, 409]
    assert len(await billing.requests(first["company_name"])) == 1


async def test_concurrent_approvals_get_their_own_responses(admin, register, billing, database):
    fresh = [await register() for _ in range(30)]
    rejected, stale, twice = [await register() for _ in range(3)]
    await admin.post(f"/candidates/{rejected['candidate_id']}/reject")
    unknown = {"candidate_id": str(uuid4())}

    responses = await asyncio.gather(
        *(approve(admin, candidate) for candidate in (*fresh, rejected, unknown, twice, twice)),
        approve(admin, stale, **{"If-Match": '"7"'}),
    )

    statuses = [response.status_code for response in responses]
    assert statuses[:32] == [200] * 30 + [400, 404]
    assert sorted(statuses[32:34]) in ([200, 400], [200, 409])
    assert statuses[34] == 412
    for candidate, response in zip(fresh, responses[:30], strict=True):
        [provider] = await billing.providers(candidate["company_name"])
        assert response.json()["provider_id"] == provider["id"]
    made = [candidate["candidate_id"] for candidate in (*fresh, twice)]
    events = await database.fetch("SELECT event FROM approval_events WHERE candidate_id = ANY($1)", made)
    assert Counter(row["event"] for row in events) == {"requested": 31, "approved": 31}
    left = "SELECT count(*) FROM approval_intents WHERE candidate_id = ANY($1)"
    assert await database.fetchval(left, [*made, rejected["candidate_id"], stale["candidate_id"]]) == 0


async def test_a_locked_candidate_delays_no_other_approval(admin, register, database):
    held, free = [await register() for _ in range(2)]

    async with database.transaction():
        await database.execute("SELECT 1 FROM candidates WHERE id = $1 FOR UPDATE", held["candidate_id"])
        waiting = asyncio.create_task(approve(admin, held))
        others = await asyncio.wait_for(approve(admin, free), 3)
        assert not waiting.done()

    assert others.status_code == 200
    assert (await waiting).status_code == 200


async def test_a_client_that_leaves_does_not_interrupt_the_approval(admin, register, billing):
    candidate = await register()
    await billing.set(latency_ms=400)
    leaving = asyncio.create_task(approve(admin, candidate))
    await asyncio.sleep(0.2)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    for _ in range(100):
        if (await read(admin, candidate))["status"] == "approved":
            break
        await asyncio.sleep(0.05)

    assert (await read(admin, candidate))["version"] == 2
    assert len(await billing.providers(candidate["company_name"])) == 1
