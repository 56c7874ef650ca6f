"""Many candidates are decided with one request, each as if alone."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from uuid import uuid4

import pytest

from provider_registration.bulk.models import MAX_LISTED
from provider_registration.web.body import MAX_BODY_BYTES

from .conftest import a_key, items_of

pytestmark = pytest.mark.usefixtures("no_candidates")


async def registered(register, count):
    return [await register() for _ in range(count)]


async def test_a_decision_is_a_job_that_can_be_read_until_it_is_done(decide, ended, register, admin, auditor):
    candidates = await registered(register, 3)
    response = await decide("reject", items_of(candidates), reason="No cold chain")
    assert response.status_code == 202
    job = response.json()
    assert response.headers["Location"] == f"/jobs/{job['job_id']}"
    assert (job["of"], job["kind"]) == (3, "candidates.reject")

    done = await ended(job["job_id"])
    assert (done["state"], done["done"], done["summary"]) == ("done", 3, {"rejected": 3})
    assert done["results"] == [{"candidate_id": one["candidate_id"], "status": "rejected"} for one in candidates]
    for one in candidates:
        record = (await admin.get(f"/candidates/{one['candidate_id']}")).json()
        assert (record["status"], record["rejection_reason"]) == ("rejected", "No cold chain")
    listed = (await auditor.get("/jobs?limit=1")).json()["jobs"]
    assert [each["job_id"] for each in listed] == [job["job_id"]]
    assert done["created_by"]["name"] == "admin@example.com"


async def test_with_prefer_wait_the_response_is_the_finished_job(decide, register, billing):
    [candidate] = await registered(register, 1)
    response = await decide("approve", items_of([candidate]), wait=10)
    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=10")
    assert response.json()["results"] == [{"candidate_id": candidate["candidate_id"], "status": "approved"}]
    assert len(await billing.providers(candidate["company_name"])) == 1


async def test_a_wait_that_is_too_short_gets_the_job_as_it_is(decide, ended, register, billing):
    await billing.set(latency_ms=1500)
    [candidate] = await registered(register, 1)
    response = await decide("approve", items_of([candidate]), wait=0)
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "wait=0")
    assert (await ended(response.json()["job_id"]))["summary"] == {"approved": 1}


async def test_each_of_500_gets_the_code_of_the_request_for_one_in_the_order_asked(
    decide, ended, register, anonymous, registration, admin, database, billing
):
    kinds = ["pending", "rejected", "approved", "unknown", "changed", "in_doubt"]
    made = []
    for number in range(MAX_LISTED):
        kind = kinds[number % len(kinds)] if number < 60 else ("pending", "unknown", "changed")[number % 3]
        if kind == "unknown":
            made.append((kind, {"candidate_id": str(uuid4()), "version": 1}))
            continue
        response = await anonymous.post("/candidates", json=registration())
        one = {name: response.json()[name] for name in ("candidate_id", "version")}
        if kind in ("rejected", "approved"):
            await admin.post(
                f"/candidates/{one['candidate_id']}/{kind.removesuffix('ed').replace('approv', 'approve')}"
            )
            del one["version"]
        if kind == "changed":
            one["version"] = 7
        if kind == "in_doubt":
            await database.execute(
                "INSERT INTO approval_intents (candidate_id, idempotency_key, provider_name, requested_by, "
                "next_attempt_at, in_doubt_since) VALUES ($1, $2, $3, $4, now(), now())",
                *(one["candidate_id"], uuid4(), uuid4().hex, uuid4()),
            )
        made.append((kind, one))

    response = await decide("reject", [one for _, one in made])
    assert response.status_code == 202, response.text
    done = await ended(response.json()["job_id"])

    assert [result["candidate_id"] for result in done["results"]] == [one["candidate_id"] for _, one in made]
    for (kind, one), result in zip(made, done["results"], strict=True):
        if kind == "pending":
            assert result["status"] == "rejected"
            continue
        headers = {"If-Match": f'"{one["version"]}"'} if "version" in one else {}
        alone = await admin.post(f"/candidates/{one['candidate_id']}/reject", headers=headers)
        assert (result["status"], result["code"]) == ("failed", alone.json()["type"].rpartition(":")[2])
    counted = Counter(result.get("code", result["status"]) for result in done["results"])
    assert done["summary"] == counted
    assert set(counted) == {
        "rejected",
        "candidate-not-found",
        "candidate-not-pending",
        "version-mismatch",
        "approval-needs-resolution",
    }


async def test_approvals_get_the_codes_of_billing(decide, ended, register, admin, billing, anonymous, registration):
    name = f"Obsthof {uuid4().hex}"
    first, second = await register(company_name=name), await register(company_name=name)
    [other] = await registered(register, 1)
    response = await decide("approve", items_of([first, second, other]), wait=10)
    done = response.json() if response.status_code == 200 else await ended(response.json()["job_id"])
    assert done["summary"] == {"approved": 2, "provider-name-taken": 1}
    assert done["results"][2]["status"] == "approved"
    assert len(await billing.providers(name)) == 1


async def test_the_same_key_again_does_nothing_and_another_body_is_refused(decide, ended, register, admin, database):
    candidates = await registered(register, 2)
    key, items = a_key(), items_of(candidates)
    first = await decide("reject", items, key=key)
    await ended(first.json()["job_id"])
    again = await decide("reject", items, key=key)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.json()["summary"] == {"rejected": 2}
    other = await decide("approve", items, key=key)
    assert (other.status_code, other.json()["type"].rpartition(":")[2]) == (422, "idempotency-key-reused")
    missing = await admin.post("/candidates/decisions", json={"decision": "reject", "items": items})
    assert (missing.status_code, missing.json()["type"].rpartition(":")[2]) == (400, "idempotency-key-missing")


async def test_concurrent_requests_with_one_key_make_one_job(decide, ended, register):
    [candidate] = await registered(register, 1)
    key = a_key()
    responses = await asyncio.gather(*(decide("reject", items_of([candidate]), key=key) for _ in range(8)))
    assert {response.status_code for response in responses} <= {202, 409}
    ids = {response.json()["job_id"] for response in responses if response.status_code == 202}
    assert len(ids) == 1
    await ended(ids.pop())


async def test_reversed_lists_of_two_admins_never_deadlock(decide, ended, register, database):
    for round_ in range(50):
        candidates = await registered(register, 5)
        items = items_of(candidates)
        decision = ("reject", "approve")[round_ % 2]
        both = await asyncio.gather(decide(decision, items, wait=10), decide(decision, items[::-1], wait=10))
        jobs = [
            response.json() if response.status_code == 200 else await ended(response.json()["job_id"])
            for response in both
        ]
        decided = Counter()
        for job in jobs:
            assert job["state"] == "done"
            assert all(
                result["status"] != "failed"
                or result["code"] in ("version-mismatch", "candidate-not-pending", "approval-in-progress")
                for result in job["results"]
            ), job
            decided.update(result["candidate_id"] for result in job["results"] if result["status"] != "failed")
        assert decided == Counter({one["candidate_id"]: 1 for one in candidates})


async def test_a_selection_is_frozen_when_it_is_posted(decide, ended, register, admin, billing):
    await billing.set(latency_ms=300)
    grapes = [await register(products=["grapes"]) for _ in range(6)]
    apples = await register(products=["apples"])
    response = await decide("approve", selection={"product": "grapes"}, at_most=5000)
    later = await register(products=["grapes"])
    done = await ended(response.json()["job_id"])
    assert [result["candidate_id"] for result in done["results"]] == [one["candidate_id"] for one in grapes]
    assert (done["summary"], done["is_partial"]) == ({"approved": 6}, False)
    for one in (apples, later):
        assert (await admin.get(f"/candidates/{one['candidate_id']}")).json()["status"] == "pending"


async def test_of_a_selection_at_most_so_many_are_decided(decide, ended, register):
    candidates = await registered(register, 4)
    response = await decide("reject", selection={}, at_most=3)
    done = await ended(response.json()["job_id"])
    assert [result["candidate_id"] for result in done["results"]] == [one["candidate_id"] for one in candidates[:3]]
    assert done["is_partial"] is True
    empty = await decide("reject", selection={"product": "mangoes"}, wait=10)
    assert (empty.status_code, empty.json()["of"], empty.json()["state"]) == (200, 0, "done")


async def test_results_are_read_page_by_page(decide, ended, register, admin):
    candidates = await registered(register, 5)
    job_id = (await decide("reject", items_of(candidates))).json()["job_id"]
    await ended(job_id)
    page = await admin.get(f"/jobs/{job_id}?limit=3")
    first = page.json()
    assert page.links["next"]["url"] == f"/jobs/{job_id}?limit=3&cursor={first['pagination']['next_cursor']}"
    second = (await admin.get(page.links["next"]["url"])).json()
    found = [result["candidate_id"] for result in (*first["results"], *second["results"])]
    assert found == [one["candidate_id"] for one in candidates]
    assert second["pagination"] == {"next_cursor": None}
    progress = (await admin.get(f"/jobs/{job_id}?limit=0")).json()
    assert (progress["results"], progress["done"]) == ([], 5)


async def test_jobs_are_listed_by_cursor_and_link(decide, ended, register, admin):
    candidates = await registered(register, 3)
    posted = [(await decide("reject", items_of([each]))).json()["job_id"] for each in candidates]
    for job_id in posted:
        await ended(job_id)
    link, seen = "/jobs?limit=2", []
    while link and len(seen) < len(posted):
        page = await admin.get(link)
        seen += [job["job_id"] for job in page.json()["jobs"]]
        assert page.links["first"]["url"] == "/jobs?limit=2"
        link = page.links.get("next", {}).get("url")

    assert seen[:3] == posted[::-1]


async def test_cancelling_leaves_the_rest_undecided(decide, register, admin, billing, database):
    await billing.set(latency_ms=500)
    candidates = await registered(register, 30)
    job_id = (await decide("approve", items_of(candidates))).json()["job_id"]
    await asyncio.sleep(0.7)
    cancelled = await admin.post(f"/jobs/{job_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    while await database.fetchval("SELECT due_at FROM jobs WHERE id = $1", job_id):
        await asyncio.sleep(0.05)
    job = (await admin.get(f"/jobs/{job_id}")).json()
    statuses = [result["status"] for result in job["results"]]
    assert 0 < job["done"] == statuses.count("approved") < 30
    assert set(statuses) == {"approved", "cancelled"}
    pending = (await admin.get("/candidates?status=pending")).json()["pagination"]["total"]
    assert pending == statuses.count("cancelled")
    assert (await admin.post(f"/jobs/{job_id}/cancel")).status_code == 200
    assert (await admin.post(f"/jobs/{uuid4()}/cancel")).json()["type"].endswith(":job-not-found")


async def test_a_job_that_is_done_cannot_be_cancelled(decide, register, admin):
    response = await decide("reject", items_of(await registered(register, 1)), wait=10)
    refused = await admin.post(f"/jobs/{response.json()['job_id']}/cancel")
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (400, "job-done")


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"decision": "approve"}, None, "combination"),
        ({"decision": "approve", "items": [{"candidate_id": str(uuid4())}], "selection": {}}, None, "combination"),
        ({"decision": "approve", "items": []}, "items", "too-short"),
        ({"decision": "shrug", "selection": {}}, "decision", "unknown-value"),
        ({"decision": "approve", "selection": {}, "reason": "x"}, None, "combination"),
        ({"decision": "approve", "selection": {"colour": "red"}}, "selection.colour", "unknown"),
        ({"decision": "approve", "selection": {}, "at_most": 5001}, "at_most", "too-large"),
        ({"decision": "approve", "items": [{"candidate_id": str(uuid4())}], "at_most": 5}, None, "combination"),
        ({"decision": "reject", "selection": {}, "reason": "x" * 1001}, "reason", "too-long"),
        ({"decision": "approve", "items": [{"candidate_id": "x"}]}, "items.0.candidate_id", "invalid"),
        (
            {"decision": "approve", "items": [{"candidate_id": str(uuid4()), "version": 0}]},
            "items.0.version",
            "too-small",
        ),
        ({"decision": "approve", "items": [{"candidate_id": str(uuid4())}] * 2}, None, "repeated"),
        ({"decision": "approve", "items": [{"candidate_id": str(uuid4())} for _ in range(501)]}, "items", "too-long"),
    ],
)
async def test_a_request_that_is_invalid_decides_nothing(admin, body, field, code, database):
    before = await database.fetchval("SELECT count(*) FROM jobs")
    response = await admin.post("/candidates/decisions", json=body, headers=a_key())
    assert response.status_code == 422, response.text
    assert (field, code) in [(error["field"], error["code"]) for error in response.json()["errors"]]
    assert await database.fetchval("SELECT count(*) FROM jobs") == before


async def test_500_items_with_the_longest_reason_fit_into_a_body():
    items = [{"candidate_id": str(uuid4()), "version": 2**31 - 1} for _ in range(MAX_LISTED)]
    body = {"decision": "reject", "reason": "果" * 1000, "notify": False, "items": items}
    assert len(json.dumps(body, indent=2, ensure_ascii=False).encode()) < MAX_BODY_BYTES


async def test_history_names_who_posted_the_job_and_the_job(decide, register, admin):
    candidates = await registered(register, 2)
    jobs = [
        (await decide(decision, items_of([one]), wait=10)).json()
        for decision, one in zip(("approve", "reject"), candidates, strict=True)
    ]
    for one, job in zip(candidates, jobs, strict=True):
        events = (await admin.get(f"/candidates/{one['candidate_id']}/events")).json()["events"]
        assert all(event["actor"]["name"] == "admin@example.com" for event in events[:-1])
        assert [event for event in events if event["data"].get("job_id") == job["job_id"]]
    audit = (await admin.get("/audit?type=job.created")).json()["events"]
    assert {event["subject"]["id"] for event in audit} >= {job["job_id"] for job in jobs}


async def test_what_cannot_be_decided_takes_few_statements(decide, ended, register, admin, database):
    first = [await register() for _ in range(3)]
    done = await ended((await decide("reject", items_of([each["candidate_id"] for each in first]))).json()["job_id"])
    assert done["summary"] == {"rejected": 3}
    unknown = [uuid4() for _ in range(200)]
    last = await register()

    items = items_of([*(each["candidate_id"] for each in first), *unknown, last["candidate_id"]])
    response = await decide("approve", items)
    done = await ended(response.json()["job_id"])

    codes = [result.get("code", result["status"]) for result in done["results"]]
    assert codes == ["candidate-not-pending"] * 3 + ["candidate-not-found"] * 200 + ["approved"]
    written = "SELECT count(DISTINCT xmin::text) FROM job_items WHERE job_id = $1"
    assert await database.fetchval(written, done["job_id"]) < 10
