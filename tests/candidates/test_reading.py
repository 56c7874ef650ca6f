"""Reading one candidate."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from provider_registration.candidates.company import EXAMPLE, FACTS, LABELS


def test_every_fact_has_a_label_and_an_example():
    assert set(LABELS) == set(EXAMPLE) == set(FACTS)


async def test_the_record_comes_with_its_version_as_etag(viewer, admin, register):
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"

    pending = await viewer.get(path)
    await admin.post(f"{path}/reject", json={"reason": "No cold chain"})
    rejected = await viewer.get(path)

    assert (pending.status_code, pending.headers["ETag"], pending.json()) == (200, '"1"', candidate)
    assert (rejected.status_code, rejected.headers["ETag"]) == (200, '"2"')
    assert rejected.json() == candidate | {
        "status": "rejected",
        "version": 2,
        "rejection_reason": "No cold chain",
        "updated_at": rejected.json()["updated_at"],
    }
    assert rejected.json()["updated_at"] > candidate["updated_at"]


async def test_an_approved_record_names_its_provider(viewer, admin, register):
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"

    approval = await admin.post(f"{path}/approve")

    record = (await viewer.get(path)).json()
    assert record["status"] == "approved"
    assert record["provider_id"] == approval.json()["provider_id"]


@pytest.mark.parametrize("write", [str.upper, "{{{}}}".format, "urn:uuid:{}".format, lambda i: i.replace("-", "")])
async def test_any_writing_of_the_id_that_means_the_same_will_do(viewer, register, write):
    candidate = await register()

    response = await viewer.get(f"/candidates/{write(candidate['candidate_id'])}")

    assert response.json() == candidate


async def test_concurrent_reads_get_their_own_candidates(viewer, register):
    candidates = [await register() for _ in range(5)]
    ids = [str(uuid4()) if number % 7 == 0 else candidates[number % 5]["candidate_id"] for number in range(100)]

    responses = await asyncio.gather(*(viewer.get(f"/candidates/{candidate_id}") for candidate_id in ids))

    known = {candidate["candidate_id"]: candidate for candidate in candidates}
    assert [response.status_code for response in responses] == [200 if i in known else 404 for i in ids]
    assert [response.json() for response in responses if response.is_success] == [known[i] for i in ids if i in known]


async def test_an_unknown_id_is_not_found(viewer):
    candidate_id = uuid4()

    response = await viewer.get(f"/candidates/{candidate_id}")

    assert response.status_code == 404
    assert response.json() == {
        "type": "urn:problem-type:provider-registration:candidate-not-found",
        "title": "Candidate not found",
        "status": 404,
        "detail": f"Candidate {candidate_id} not found.",
        "instance": f"/candidates/{candidate_id}",
    }


@pytest.mark.parametrize(
    "wrong", ["1", "x" * 36, "MARKER", "00000000-0000-0000-0000-00000000000g", "%00", "null", "%ff"]
)
async def test_what_is_no_id_is_refused(viewer, wrong):
    response = await viewer.get(f"/candidates/{wrong}")

    assert response.status_code == 422
    assert response.json()["errors"] == [
        {"location": "path", "field": "candidate_id", "code": "invalid", "detail": "Input should be a UUID"}
    ]


@pytest.mark.asvs("V8.2.2", "API1")
async def test_a_stranger_learns_nothing_not_even_whether_it_exists(anonymous, register):
    candidate = await register()

    known = await anonymous.get(f"/candidates/{candidate['candidate_id']}")
    unknown = await anonymous.get(f"/candidates/{uuid4()}")
    impossible = await anonymous.get("/candidates/1")

    assert {response.status_code for response in (known, unknown, impossible)} == {401}
    assert len({response.json()["detail"] for response in (known, unknown, impossible)}) == 1
