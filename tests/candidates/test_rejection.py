"""Rejection: once, with or without a reason, and never during an approval."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def candidate(register):
    return await register()


@pytest.fixture
def path(candidate):
    return f"/candidates/{candidate['candidate_id']}"


async def test_a_reason_is_kept(admin, candidate, path):
    response = await admin.post(f"{path}/reject", json={"reason": "  No cold chain "})

    assert response.status_code == 200
    assert response.json() == {
        "candidate_id": candidate["candidate_id"],
        "status": "rejected",
        "rejection_reason": "No cold chain",
    }
    record = (await admin.get(path)).json()
    assert (record["status"], record["version"]) == ("rejected", 2)
    assert record["rejection_reason"] == "No cold chain"
    assert record["provider_id"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"headers": JSON},
        {"json": {}},
        {"json": {"reason": None}},
        {"json": {"reason": ""}},
        {"json": {"reason": " \u2003 "}},
        {"content": b"{}", "headers": {"Content-Type": "application/json; charset=utf-8"}},
    ],
)
async def test_no_reason_need_be_given(admin, path, body):
    response = await admin.post(f"{path}/reject", **body)

    assert response.status_code == 200
    assert response.json()["rejection_reason"] is None


@pytest.mark.parametrize("reason", ["x" * 1000, "漢" * 1000, "e\u0301" * 1000, " " + "x" * 1000 + " "])
async def test_a_reason_may_have_1000_characters(admin, path, reason):
    response = await admin.post(f"{path}/reject", json={"reason": reason})

    assert response.status_code == 200
    assert len(response.json()["rejection_reason"]) == 1000


@pytest.mark.parametrize(
    "body",
    [
        b'{"reason": "' + b"x" * 1001 + b'"}',
        b'{"reason": 5}',
        b'{"reason": ["x"]}',
        b'{"reason": "a\\u0000b"}',
        b'{"reason": "\\ud800"}',
        b'{"reason": "x", "status": "pending"}',
        b'{"reason": "x", "reason": "y"}',
        b"[]",
        b"null",
        b'"No cold chain"',
        b"No cold chain",
        b"\xff",
    ],
)
async def test_anything_else_is_refused_and_changes_nothing(admin, path, body):
    response = await admin.post(f"{path}/reject", content=body, headers=JSON)

    assert response.status_code == 422
    assert (await admin.get(path)).json()["status"] == "pending"


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}])
async def test_a_body_that_is_not_announced_as_json_is_refused(admin, path, headers):
    response = await admin.post(f"{path}/reject", content=b'{"reason": "x"}', headers=headers)

    assert response.status_code == 415
    assert (await admin.get(path)).json()["status"] == "pending"


async def test_a_second_rejection_is_refused_and_changes_nothing(admin, path):
    await admin.post(f"{path}/reject", json={"reason": "first"})

    response = await admin.post(f"{path}/reject", json={"reason": "second"})

    assert response.status_code == 400
    assert response.json()["type"].endswith(":candidate-not-pending")
    record = (await admin.get(path)).json()
    assert (record["rejection_reason"], record["version"]) == ("first", 2)


async def test_rejecting_an_approved_candidate_is_refused_and_changes_nothing(admin, path):
    await admin.post(f"{path}/approve")

    response = await admin.post(f"{path}/reject", json={"reason": "too late"})

    assert response.status_code == 400
    record = (await admin.get(path)).json()
    assert (record["status"], record["rejection_reason"], record["version"]) == ("approved", None, 2)


async def test_of_concurrent_rejections_one_succeeds(admin, path):
    reasons = [f"reason {number}" for number in range(20)]

    responses = await asyncio.gather(*(admin.post(f"{path}/reject", json={"reason": r}) for r in reasons))

    assert Counter(response.status_code for response in responses) == {200: 1, 400: 19}
    [winner] = [response.json() for response in responses if response.status_code == 200]
    record = (await admin.get(path)).json()
    assert (record["rejection_reason"], record["version"]) == (winner["rejection_reason"], 2)


@pytest.mark.parametrize("if_match", ['"1"', "*", '"7", "1"', ' "1" ', 'W/"1"'])
async def test_if_match_with_the_version_read_rejects(admin, path, if_match):
    response = await admin.post(f"{path}/reject", headers={"If-Match": if_match.strip()})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "if_match", ['"2"', '"0"', 'W/"2"', "1", "", '"1', '"*"', '"01x"', '"99999999999999999999"', '"9999999999"', "x"]
)
async def test_a_stale_if_match_changes_nothing(admin, path, if_match):
    response = await admin.post(f"{path}/reject", headers={"If-Match": if_match})

    assert response.status_code == 412
    assert response.json()["type"].endswith(":version-mismatch")
    assert (await admin.get(path)).json()["status"] == "pending"


async def test_several_if_match_lines_are_one_list(admin, path):
    response = await admin.post(f"{path}/reject", headers=[("If-Match", '"7"'), ("If-Match", '"1"')])

    assert response.status_code == 200


async def test_an_approval_in_progress_blocks_rejection(admin, candidate, path, billing):
    await billing.set(latency_ms=3000)
    approving = asyncio.create_task(admin.post(f"{path}/approve"))
    while not await billing.requests(candidate["company_name"]):
        await asyncio.sleep(0.01)

    response = await admin.post(f"{path}/reject")

    assert response.status_code == 409
    assert (await approving).status_code == 200
    record = (await admin.get(path)).json()
    assert (record["status"], record["rejection_reason"], record["version"]) == ("approved", None, 2)


async def test_concurrent_rejections_get_their_own_responses(admin, register):
    pending = [(await register())["candidate_id"] for _ in range(30)]
    approved = (await register())["candidate_id"]
    await admin.post(f"/candidates/{approved}/approve")
    unknown = str(uuid4())

    def reject(candidate_id, version):
        path, body = f"/candidates/{candidate_id}/reject", {"reason": f"for {candidate_id}"}
        return admin.post(path, json=body, headers={"If-Match": f'"{version}"'})

    stale, *fresh = pending
    asked = [(candidate_id, 1) for candidate_id in fresh] + [(approved, 2), (unknown, 1), (stale, 7)]
    responses = await asyncio.gather(*(reject(*each) for each in asked))

    assert [response.status_code for response in responses] == [200] * 29 + [400, 404, 412]
    assert [response.json()["rejection_reason"] for response in responses[:29]] == [f"for {i}" for i in fresh]


async def test_a_locked_candidate_delays_no_other_rejection(admin, register, database):
    held, free = [(await register())["candidate_id"] for _ in range(2)]

    async with database.transaction():
        await database.execute("SELECT 1 FROM candidates WHERE id = $1 FOR UPDATE", held)
        waiting = asyncio.create_task(admin.post(f"/candidates/{held}/reject"))
        others = await asyncio.wait_for(admin.post(f"/candidates/{free}/reject"), 2)
        assert not waiting.done()

    assert others.status_code == 200
    assert (await waiting).status_code == 200
    recorded = await database.fetch("SELECT rejected_by FROM candidates WHERE id = ANY($1)", [held, free])
    assert recorded[0]["rejected_by"] == recorded[1]["rejected_by"] is not None


async def test_an_unknown_candidate_cannot_be_rejected(admin):
    response = await admin.post(f"/candidates/{uuid4()}/reject")

    assert response.status_code == 404


async def test_a_viewer_may_not_reject(viewer, path):
    response = await viewer.post(f"{path}/reject")

    assert response.status_code == 403
    assert response.json()["type"].endswith(":role-not-allowed")
    assert (await viewer.get(path)).json()["status"] == "pending"
