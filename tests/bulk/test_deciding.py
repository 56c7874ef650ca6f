"""A process may die after a decision and before its result: the next one finds what the job did, and does no more."""

from __future__ import annotations

from uuid import uuid4

import pytest

from provider_registration.jobs import runner

from .conftest import items_of

# As a process leaves a job that dies before it records the results.
LEAVE_ITEMS = "UPDATE job_items SET status = NULL, code = NULL, claim_id = gen_random_uuid() WHERE job_id = $1"
LEAVE_JOB = """
    UPDATE jobs
    SET state = 'running', done = 0, summary = '{}', ended_at = NULL, due_at = clock_timestamp(),
        claim_id = gen_random_uuid(), parameters = '{"reason": null, "notify": true}'
    WHERE id = $1
"""
COUNT_EVENTS = "SELECT count(*) FROM candidate_events WHERE candidate_id = ANY(CAST($1 AS uuid[]))"


@pytest.mark.parametrize(("decision", "status"), [("approve", "approved"), ("reject", "rejected")])
async def test_what_the_job_has_decided_is_its_result_though_its_process_died(
    decide, ended, register, database, billing, decision, status
):
    candidates = [await register() for _ in range(2)]
    ids = [one["candidate_id"] for one in candidates]
    first = await decide(decision, items_of(candidates), wait=10)
    assert first.json()["summary"] == {status: 2}
    before = await database.fetchval(COUNT_EVENTS, ids)

    async with database.transaction():
        await database.execute(LEAVE_ITEMS, first.json()["job_id"])
        await database.execute(LEAVE_JOB, first.json()["job_id"])
    again = await ended(first.json()["job_id"])

    assert again["results"] == first.json()["results"]
    assert again["summary"] == {status: 2}
    assert await database.fetchval(COUNT_EVENTS, ids) == before
    for one in candidates:
        assert len(await billing.providers(one["company_name"])) == (decision == "approve")


@pytest.mark.parametrize("decision", ["approve", "reject"])
@pytest.mark.parametrize("version", [None, 1])
async def test_what_another_has_decided_is_not_the_result_of_the_job(decide, register, admin, decision, version):
    candidate = (await register())["candidate_id"]
    assert (await admin.post(f"/candidates/{candidate}/{decision}")).status_code == 200

    job = (await decide(decision, [{"candidate_id": candidate, "version": version}], wait=10)).json()

    assert [result["status"] for result in job["results"]] == ["failed"]
    assert job["results"][0]["code"] in ("candidate-not-pending", "version-mismatch")


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_the_companies_get_an_e_mail_unless_the_request_says_otherwise(decide, register, admin, decision):
    told, not_told = await register(), await register()
    await decide(decision, items_of([told]), wait=10)
    await decide(decision, items_of([not_told]), notify=False, wait=10)

    for candidate, notify in ((told, None), (not_told, False)):
        events = (await admin.get(f"/candidates/{candidate['candidate_id']}/events")).json()["events"]
        assert events[0]["data"].get("notify") is notify


async def test_a_company_whose_name_is_being_approved_for_another_is_not_approved(
    decide, ended, register, billing, monkeypatch
):
    monkeypatch.setattr(runner, "WAITS", (0.05,) * 8)
    name = f"Obsthof {uuid4().hex}"
    first, second = await register(company_name=name), await register(company_name=name)
    await billing.fail("fail_500", names=[name])
    unfinished = await decide("approve", items_of([first]), wait=10)
    job = await ended((await decide("approve", items_of([second]))).json()["job_id"])
    await billing.fail("none")

    assert unfinished.json()["results"][0]["status"] == "failed"
    assert job["summary"] == {"provider-name-busy": 1}


@pytest.mark.usefixtures("no_candidates")
async def test_a_selection_says_whether_there_were_more_also_at_the_end_of_a_page(decide, ended, register, monkeypatch):
    monkeypatch.setattr("provider_registration.candidates.browsing.MAX_PAGE", 2)
    for _ in range(4):
        await register()

    partial = [
        (await ended((await decide("reject", selection={}, at_most=most)).json()["job_id"]))["is_partial"]
        for most in (2, 2)
    ]

    assert partial == [True, False]
