"""What the API reports about a candidate's history."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner

from provider_registration.cli import main
from tests.service import PASSWORD

# Let no sweep come before a retry.
POSTPONE = """
    UPDATE approval_intents SET next_attempt_at = now() + interval '60 s' WHERE candidate_id = $1 AND claim_id IS NULL
    RETURNING true
"""


@pytest.fixture
def history(admin):
    """The events of a candidate as a client sees them, oldest first."""

    async def history(candidate, client=admin, **parameters):
        response = await client.get(f"/candidates/{candidate['candidate_id']}/events", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()["events"][::-1]

    return history


def types(events):
    return [event["type"].removeprefix("candidate.") for event in events]


async def test_an_approval_is_told_from_registration_to_decision(admin, register, history):
    candidate = await register()
    approved = (await admin.post(f"/candidates/{candidate['candidate_id']}/approve")).json()

    registered, requested, decided = await history(candidate)

    assert types([registered, requested, decided]) == ["registered", "approval_requested", "approved"]
    assert registered["actor"] == {"kind": "applicant", "id": None, "name": None}
    assert (
        requested["actor"]
        == decided["actor"]
        == {"kind": "user", "id": decided["actor"]["id"], "name": "admin@example.com"}
    )
    assert [event["version"] for event in (registered, requested, decided)] == [1, 1, 2]
    assert decided["data"]["provider_id"] == approved["provider_id"]
    assert decided["data"]["idempotency_key"] == requested["data"]["idempotency_key"]
    assert registered["at"] <= requested["at"] <= decided["at"]


async def test_a_rejection_and_a_replaced_link_name_the_user(admin, register, history):
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"
    await admin.post(f"{path}/status-link")
    await admin.post(f"{path}/reject", json={"reason": "No cold chain"})

    events = await history(candidate)

    assert types(events) == ["registered", "status_link_replaced", "rejected"]
    assert {event["actor"]["name"] for event in events[1:]} == {"admin@example.com"}
    assert [event["version"] for event in events] == [1, 1, 2]
    assert "No cold chain" not in str(events)  # the reason is personal data of the record


async def test_a_failed_approval_tells_auditors_the_error_and_viewers_not(
    admin, auditor, viewer, register, billing, history
):
    candidate = await register()
    await billing.fail("refuse_400", names=[candidate["company_name"]])
    await admin.post(f"/candidates/{candidate['candidate_id']}/approve")

    [*_, failed] = await history(candidate)
    seen = await history(candidate, viewer)

    assert (await history(candidate, auditor))[-1] == failed
    assert failed["type"] == "candidate.approval_failed"
    assert failed["actor"]["kind"] == "service"
    assert failed["data"]["error"]
    assert types(seen) == ["registered", "approval_requested", "approval_failed"]
    assert [event["data"] for event in seen] == [{}, {}, {}]


async def test_linking_a_provider_is_two_events_in_order_and_one_in_the_list_of_approvals(
    admin, register, billing, history
):
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"
    await billing.fail("wrong_name", names=[candidate["company_name"]])
    await admin.post(f"{path}/approve")
    provider_id = 1_900_000_000 + uuid4().int % 100_000_000
    resolution = {"resolution": "link", "provider_id": provider_id}
    assert (await admin.post(f"{path}/approval/resolve", json=resolution)).status_code == 200

    events = await history(candidate)
    of_approval = (await admin.get(f"{path}/approval/events")).json()["events"]

    assert types(events) == ["registered", "approval_requested", "approval_in_doubt", "approval_linked", "approved"]
    assert events[-1]["data"]["linked"] is True
    assert [event["version"] for event in events] == [1, 1, 1, 1, 2]
    assert [event["event"] for event in of_approval] == ["linked", "in_doubt", "requested"]
    assert [event["provider_id"] for event in of_approval] == [provider_id, None, None]


async def test_the_list_of_approvals_says_who_approved(admin, register):
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"
    await admin.post(f"{path}/approve")

    events = (await admin.get(f"{path}/approval/events")).json()["events"]

    assert [event["event"] for event in events] == ["approved", "requested"]
    assert events[0]["user_id"] == events[1]["user_id"] is not None


async def test_who_retried_an_approval_approved_it(
    admin, register, billing, history, users, service, connect, database
):
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, "admin")
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"
    await billing.fail("commit_then_500", names=[candidate["company_name"]])
    async with connect(service.url) as other:
        token = (await other.post("/auth/login", json={"username": email, "password": PASSWORD})).json()["access_token"]
    async with connect(service.url, token) as other:
        response = await other.post(f"{path}/approve")
    assert response.status_code == 502, response.text
    async with asyncio.timeout(30):
        while not await database.fetchval(POSTPONE, UUID(candidate["candidate_id"])):  # while a sweep has it
            await asyncio.sleep(0.02)
    await billing.fail("none")
    await admin.post(f"{path}/approval/retry")

    events = await history(candidate)

    assert types(events) == ["registered", "approval_requested", "approval_retried", "approved"]
    assert [event["actor"]["name"] for event in events[1:]] == [email, "admin@example.com", "admin@example.com"]
    assert events[2]["data"]["attempt"] >= 2


async def test_pages_follow_one_another_to_the_first_event(admin, register, database):
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}/events"
    for _ in range(6):
        await admin.post(f"/candidates/{candidate['candidate_id']}/status-link")
    seen, cursor = [], None
    for _ in range(4):
        page = (await admin.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += page["events"]
        cursor = page["pagination"]["next_cursor"]

    assert cursor is None
    ids = [
        str(row["id"])
        for row in await database.fetch(
            "SELECT id FROM candidate_events WHERE candidate_id = $1 ORDER BY at DESC, id DESC",
            candidate["candidate_id"],
        )
    ]
    assert [event["id"] for event in seen] == ids
    assert len(ids) == 7


@pytest.mark.parametrize("parameters", [{"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"cursor": 2**63}, {"page": 1}])
async def test_other_parameters_are_refused(admin, register, parameters):
    candidate = await register()

    response = await admin.get(f"/candidates/{candidate['candidate_id']}/events", params=parameters)

    assert response.status_code == 422


async def test_an_unknown_candidate_has_no_events(admin):
    response = await admin.get(f"/candidates/{uuid4()}/events")

    assert response.status_code == 404
    assert response.json()["type"].endswith(":candidate-not-found")


async def test_erasure_is_an_event_and_removes_the_errors(admin, register, billing, history, migrated_database_url):
    candidate = await register()
    await billing.fail("refuse_400", names=[candidate["company_name"]])
    await admin.post(f"/candidates/{candidate['candidate_id']}/approve")
    arguments = ["erase-data", "--yes", candidate["contact_email"]]
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments, env={"DATABASE_URL": migrated_database_url})
    assert result.exit_code == 0, result.output

    events = await history(candidate)

    assert types(events) == ["registered", "approval_requested", "approval_failed", "erased"]
    assert not any("error" in event["data"] for event in events)
    assert events[-1]["version"] == 2
    of_approval = (await admin.get(f"/candidates/{candidate['candidate_id']}/approval/events")).json()["events"]
    assert {event["detail"] for event in of_approval} == {None}


async def test_every_candidate_of_a_crowd_has_each_event_once(anonymous, admin, registration, database):
    made = await asyncio.gather(*(anonymous.post("/candidates", json=registration()) for _ in range(60)))
    ids = [response.json()["candidate_id"] for response in made]
    decisions = ("approve", "reject")
    await asyncio.gather(*(admin.post(f"/candidates/{id_}/{decisions[n % 2]}") for n, id_ in enumerate(ids)))

    rows = await database.fetch(
        "SELECT candidate_id, array_agg(type ORDER BY at, id) AS types, array_agg(version ORDER BY at, id) AS versions "
        "FROM candidate_events WHERE candidate_id = ANY($1) GROUP BY 1",
        ids,
    )

    expected = {
        0: (["candidate.registered", "candidate.approval_requested", "candidate.approved"], [1, 1, 2]),
        1: (["candidate.registered", "candidate.rejected"], [1, 2]),
    }
    assert {str(row["candidate_id"]): (row["types"], row["versions"]) for row in rows} == {
        id_: expected[n % 2] for n, id_ in enumerate(ids)
    }
