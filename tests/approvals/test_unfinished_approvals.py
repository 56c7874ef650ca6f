"""Approvals that billing has not confirmed: list, retry, resolve, sweep."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from provider_registration.auth.models import Role
from provider_registration.billing.protection import FAILURES_TO_OPEN

ROUTE = "/candidates/{candidate_id}"
FORGET_ORPHANS = "DELETE FROM candidate_events WHERE type = 'candidate.provider_orphaned'"
ORPHANS = "provider_service_orphaned_providers "
HOLD_FOR = """
    UPDATE approval_intents SET claim_id = gen_random_uuid(), next_attempt_at = now() + $2::text::interval
    WHERE candidate_id = $1::text::uuid
"""


def path(candidate, suffix=""):
    return ROUTE.format(**candidate) + suffix


async def until(condition, seconds=10):
    """Wait until an async condition is true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def hurried(settings, run_service):
    """A service with short billing timeouts and a fast sweep; the shared service sweeps more slowly."""
    patience = settings.model_copy(
        update={"billing_timeout_seconds": 0.3, "billing_deadline_seconds": 1.0, "billing_max_tries": 1}
    )
    async with run_service(patience) as impatient:
        yield impatient


@pytest.fixture
async def admin(hurried, tokens):
    headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
    async with httpx.AsyncClient(base_url=hurried.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
async def in_doubt(admin, register, billing):
    """A candidate whose provider exists although the response was lost; this billing ignores idempotency keys."""
    candidate = await register()
    await billing.set(honour_idempotency_key=False)
    await billing.fail("commit_then_reset", times=1, names=[candidate["company_name"]])
    assert (await admin.post(path(candidate, "/approve"))).status_code == 502
    await retry_until_settled(admin, candidate)
    return candidate


async def retry_until_settled(admin, candidate):
    async def settled():
        record = (await admin.get(path(candidate))).json()
        if record["approval"] and record["approval"]["state"] == "waiting":
            await admin.post(path(candidate, "/approval/retry"))
        return record["approval"] is None or record["approval"]["state"] == "in_doubt"

    await until(settled)


async def test_a_pause_of_billing_does_not_hide_why_an_approval_waits(
    settings, run_service, tokens, register, billing, database
):
    await database.execute("DELETE FROM approval_intents")  # a sweep that completes one would end the pause
    candidates = [await register() for _ in range(FAILURES_TO_OPEN)]
    await billing.fail("commit_then_500", names=[candidate["company_name"] for candidate in candidates])
    slow_to_sweep = {"billing_max_tries": 1, "billing_deadline_seconds": 300}
    headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
    async with (
        run_service(settings.model_copy(update=slow_to_sweep)) as own,
        httpx.AsyncClient(base_url=own.url, headers=headers, timeout=30) as admin,
    ):
        for candidate in candidates:
            await admin.post(path(candidate, "/approve"))
        response = await admin.post(path(candidates[0], "/approval/retry"))
        record = (await admin.get(path(candidates[0]))).json()

    assert "pause" in response.json()["detail"]
    assert record["approval"]["last_error"] == "billing returned status 500"
    assert record["approval"]["attempts"] == 2


async def test_a_lost_response_leaves_the_approval_waiting(admin, register, billing):
    candidate = await register()
    await billing.fail("commit_then_500", times=1, names=[candidate["company_name"]])

    response = await admin.post(path(candidate, "/approve"))

    assert response.status_code == 502
    assert response.json()["type"].endswith(":approval-waiting")
    assert "retries automatically" in response.json()["detail"]
    record = (await admin.get(path(candidate))).json()
    assert (record["status"], record["version"]) == ("pending", 1)
    assert record["approval"]["state"] == "waiting"
    assert record["approval"]["next_attempt_at"]
    assert record["approval"]["attempts"] == 1
    assert record["approval"]["last_error"] == "billing returned status 500"


async def test_the_sweep_completes_it_with_the_provider_that_exists(admin, register, billing):
    candidate = await register()
    await billing.fail("commit_then_reset", times=1, names=[candidate["company_name"]])
    await admin.post(path(candidate, "/approve"))
    [provider] = await billing.providers(candidate["company_name"])

    async def approved():
        return (await admin.get(path(candidate))).json()["status"] == "approved"

    await until(approved)
    record = (await admin.get(path(candidate))).json()
    assert (record["provider_id"], record["version"], record["approval"]) == (provider["id"], 2, None)
    assert len(await billing.providers(candidate["company_name"])) == 1


async def test_retry_completes_it_now(admin, register, billing):
    candidate = await register()
    await billing.fail("commit_then_500", times=1, names=[candidate["company_name"]])
    await admin.post(path(candidate, "/approve"))

    response = await admin.post(path(candidate, "/approval/retry"))

    assert response.status_code == 200
    assert response.json()["status"] == "approved"
    events = (await admin.get(path(candidate, "/approval/events"))).json()["events"]
    assert [event["event"] for event in events] == ["approved", "retry_requested", "requested"]
    assert events[0]["provider_id"] == response.json()["provider_id"]
    assert events[1]["user_id"] == events[2]["user_id"] is not None


async def test_a_waiting_approval_blocks_rejection(admin, register, billing):
    candidate = await register()
    await billing.fail("hang", names=[candidate["company_name"]])
    await admin.post(path(candidate, "/approve"))

    response = await admin.post(path(candidate, "/reject"))

    assert response.status_code == 409
    assert response.json()["type"].endswith((":approval-unfinished", ":approval-in-progress"))
    assert (await admin.get(path(candidate))).json()["status"] == "pending"


async def test_approving_again_takes_a_waiting_approval_up(admin, register, billing):
    candidate = await register()
    await billing.fail("fail_500", times=1, names=[candidate["company_name"]])
    await admin.post(path(candidate, "/approve"))

    response = await admin.post(path(candidate, "/approve"))

    assert response.status_code == 200
    assert len(await billing.providers(candidate["company_name"])) == 1


async def test_a_name_taken_after_a_lost_response_is_in_doubt_never_adopted(admin, in_doubt):
    record = (await admin.get(path(in_doubt))).json()

    assert (record["status"], record["provider_id"]) == ("pending", None)
    assert record["approval"]["state"] == "in_doubt"
    for suffix in ("/approve", "/reject", "/approval/retry"):
        response = await admin.post(path(in_doubt, suffix))
        assert response.status_code == 409, suffix
        assert response.json()["type"].endswith(":approval-needs-resolution")


async def test_linking_resolves_an_approval_in_doubt(admin, in_doubt, billing):
    [provider] = await billing.providers(in_doubt["company_name"])

    response = await admin.post(
        path(in_doubt, "/approval/resolve"), json={"resolution": "link", "provider_id": provider["id"]}
    )

    assert response.status_code == 200
    record = response.json()
    assert (record["status"], record["provider_id"], record["version"]) == ("approved", provider["id"], 2)
    [newest, *_] = (await admin.get(path(in_doubt, "/approval/events"))).json()["events"]
    assert (newest["event"], newest["provider_id"]) == ("linked", provider["id"])
    assert newest["user_id"]


async def test_let_go_resolves_an_approval_in_doubt(admin, in_doubt):
    response = await admin.post(path(in_doubt, "/approval/resolve"), json={"resolution": "let_go"})

    assert response.status_code == 200
    assert (response.json()["status"], response.json()["approval"]) == ("pending", None)
    assert (await admin.post(path(in_doubt, "/reject"))).status_code == 200
    events = (await admin.get(path(in_doubt, "/approval/events"))).json()["events"]
    assert "let_go" in [event["event"] for event in events]


async def test_a_provider_of_another_candidate_cannot_be_linked(admin, in_doubt, register, billing):
    await billing.set(honour_idempotency_key=True)
    other = await register()
    approved = (await admin.post(path(other, "/approve"))).json()

    response = await admin.post(
        path(in_doubt, "/approval/resolve"), json={"resolution": "link", "provider_id": approved["provider_id"]}
    )

    assert response.status_code == 409
    assert response.json()["type"].endswith(":provider-linked-elsewhere")
    assert (await admin.get(path(in_doubt))).json()["approval"]["state"] == "in_doubt"


async def test_only_an_approval_in_doubt_can_be_resolved(admin, register, billing):
    candidate = await register()
    resolution = {"resolution": "let_go"}
    assert (await admin.post(path(candidate, "/approval/resolve"), json=resolution)).status_code == 404
    await billing.fail("hang", names=[candidate["company_name"]])
    await admin.post(path(candidate, "/approve"))

    response = await admin.post(path(candidate, "/approval/resolve"), json=resolution)

    assert response.status_code == 409
    assert response.json()["type"].endswith(":approval-not-in-doubt")


@pytest.mark.asvs("V2.1.2", "V2.2.3")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"resolution": "forget"},
        {"resolution": "link"},
        {"resolution": "link", "provider_id": 0},
        {"resolution": "link", "provider_id": 2**31},
        {"resolution": "let_go", "provider_id": 1},
        [],
    ],
)
async def test_a_resolution_that_says_nothing_is_refused(admin, in_doubt, body):
    response = await admin.post(path(in_doubt, "/approval/resolve"), json=body)

    assert response.status_code == 422
    assert (await admin.get(path(in_doubt))).json()["approval"]["state"] == "in_doubt"


async def test_unfinished_approvals_are_listed_oldest_first_and_by_state(admin, in_doubt, register, billing):
    waiting, other = await register(), await register()
    await billing.fail("hang", names=[waiting["company_name"], other["company_name"]])
    await asyncio.gather(*(admin.post(path(candidate, "/approve")) for candidate in (waiting, other)))

    everything = (await admin.get("/approvals", params={"limit": 100})).json()
    doubts = (await admin.get("/approvals", params={"state": "in_doubt", "limit": 100})).json()

    ids = [approval["candidate_id"] for approval in everything["approvals"]]
    assert ids.index(in_doubt["candidate_id"]) < ids.index(waiting["candidate_id"])
    asked = [approval["requested_at"] for approval in everything["approvals"]]
    assert asked == sorted(asked)
    assert in_doubt["candidate_id"] in [approval["candidate_id"] for approval in doubts["approvals"]]
    assert {approval["state"] for approval in doubts["approvals"]} == {"in_doubt"}
    assert all(one["next_attempt_at"] is None for one in doubts["approvals"])
    assert all(one["next_attempt_at"] for one in everything["approvals"] if one["state"] == "waiting")
    assert doubts["pagination"]["total"] == len(doubts["approvals"])
    assert everything["pagination"]["total"] >= len(doubts["approvals"]) + 2


@pytest.fixture
async def doubts(admin, in_doubt, register, billing):
    """At least two approvals in doubt, which stay so: others end while the list is read."""
    other = await register()
    await billing.fail("commit_then_reset", times=1, names=[other["company_name"]])
    assert (await admin.post(path(other, "/approve"))).status_code == 502
    await retry_until_settled(admin, other)
    listed = (await admin.get("/approvals", params={"state": "in_doubt", "limit": 100})).json()["approvals"]
    return [one["candidate_id"] for one in listed]


async def test_the_list_can_be_followed_by_cursor_or_link(admin, doubts):
    """Others may become in doubt meanwhile."""
    asked = {"state": "in_doubt", "limit": 1}
    by_cursor, by_link, cursor, link = [], [], "", "/approvals?limit=1&state=in_doubt"
    while cursor is not None and len(by_cursor) < 200:
        page = (await admin.get("/approvals", params=asked | ({"cursor": cursor} if cursor else {}))).json()
        by_cursor += [one["candidate_id"] for one in page["approvals"]]
        cursor = page["pagination"]["next_cursor"]
    while link and len(by_link) < 200:
        linked = await admin.get(link)
        by_link += [one["candidate_id"] for one in linked.json()["approvals"]]
        assert linked.links["first"]["url"] == "/approvals?limit=1&state=in_doubt"
        link = linked.links.get("next", {}).get("url")

    assert len(doubts) >= 2
    for followed in (by_cursor, by_link):
        assert [one for one in followed if one in doubts] == doubts
        assert len(set(followed)) == len(followed)


async def test_the_events_of_an_approval_can_be_followed_by_cursor_or_link(admin, in_doubt):
    events = path(in_doubt, "/approval/events")
    whole = (await admin.get(events)).json()
    assert whole["pagination"] == {"next_cursor": None}
    assert len(whole["events"]) >= 2

    seen, link = [], f"{events}?limit=1"
    while link and len(seen) < 200:
        page = await admin.get(link)
        seen += page.json()["events"]
        link = page.links.get("next", {}).get("url")
        assert bool(link) == bool(page.json()["pagination"]["next_cursor"])

    assert seen == whole["events"]


async def test_retrying_what_is_not_there_is_refused(admin, register):
    candidate = await register()

    response = await admin.post(path(candidate, "/approval/retry"))

    assert response.status_code == 404
    assert response.json()["type"].endswith(":approval-not-found")


async def test_metrics_count_what_is_unfinished(admin, in_doubt, hurried):
    async def counted():
        text = (await admin.get("/metrics")).text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return (
            float(lines['provider_service_approvals_unfinished{state="in_doubt"}']) >= 1
            and float(lines["provider_service_oldest_approval_seconds"]) > 0
            and float(lines['provider_service_approval_attempts_total{outcome="in_doubt"}']) >= 1
            and float(lines["provider_service_orphaned_providers"]) == 0
        )

    await until(counted)


async def test_without_repeats_an_ambiguous_try_is_left_to_an_admin(settings, tokens, run_service, register, billing):
    candidate = await register()
    careful = settings.model_copy(update={"billing_retry_ambiguous": False})
    await billing.fail("fail_500", times=1, names=[candidate["company_name"]])
    async with run_service(careful) as service, httpx.AsyncClient(base_url=service.url) as client:
        client.headers["Authorization"] = f"Bearer {tokens[Role.ADMIN]}"

        response = await client.post(path(candidate, "/approve"))

        assert response.status_code == 502
        assert response.json()["type"].endswith(":approval-in-doubt")
        assert "An admin must resolve" in response.json()["detail"]
        assert (await client.post(path(await register(), "/approve"))).status_code == 200
    assert len(await billing.requests(candidate["company_name"])) == 1


@pytest.mark.parametrize(
    "fault",
    [{"mode": mode} for mode in ("wrong_name", "broken_201", "oversize", "redirect")]
    + [{"mode": "bad_id", "bad_id": bad_id} for bad_id in (0, "7", 2**31, None)],
    ids=str,
)
async def test_an_unusable_response_is_left_to_an_admin(admin, register, billing, fault):
    candidate = await register()
    await billing.fail(**fault, names=[candidate["company_name"]])

    response = await admin.post(path(candidate, "/approve"))

    assert response.json()["type"].endswith(":approval-in-doubt")
    assert (await admin.get(path(candidate))).json()["approval"]["state"] == "in_doubt"
    ended = await admin.post(path(candidate, "/approval/resolve"), json={"resolution": "let_go"})
    assert ended.status_code == 200


async def test_an_approval_of_a_decided_candidate_ends_with_one_orphan(admin, register, billing, database):
    candidate = await register()
    name = candidate["company_name"]
    await billing.fail("slow", delay=0.2, names=[name])
    approving = asyncio.create_task(admin.post(path(candidate, "/approve")))
    async with asyncio.timeout(10):
        while not await billing.requests(name):
            await asyncio.sleep(0.01)
    await database.execute("UPDATE candidates SET status = 'rejected' WHERE company_name = $1", name)

    response = await approving

    assert response.status_code == 409
    assert response.json()["type"].endswith(":candidate-changed")
    assert (await admin.get(path(candidate))).json()["approval"] is None
    events = (await admin.get(path(candidate, "/approval/events"))).json()["events"]
    assert [event["event"] for event in events] == ["orphaned", "requested"]
    assert len(await billing.requests(name)) == 1
    await database.execute(FORGET_ORPHANS)  # no other process sweeps


async def test_a_provider_that_is_recorded_twice_as_an_orphan_is_counted_once(admin, register, hurried, database):
    add = """
        INSERT INTO approval_events (candidate_id, idempotency_key, event, provider_id)
        VALUES ($1::text::uuid, gen_random_uuid(), 'orphaned', $2)
    """
    candidates = [(await register())["candidate_id"] for _ in range(3)]
    async with database.transaction():  # no sweep sees only some of them
        await database.executemany(add, zip(candidates, (900_001, 900_001, 900_002), strict=True))

    async def orphans():
        [line] = [each for each in (await admin.get("/metrics")).text.splitlines() if each.startswith(ORPHANS)]
        return float(line.removeprefix(ORPHANS))

    async def counted():
        return await orphans() == 2  # regardless of earlier counts

    await until(counted)
    await database.execute(FORGET_ORPHANS)  # no other process sweeps

    async def forgotten():
        return await orphans() == 0

    await until(forgotten, seconds=30)


@pytest.fixture
async def overruled(admin, register, billing, database):
    """A candidate decided by hand, in SQL, while its approval is in doubt; and its path."""
    candidate = await register()
    name = candidate["company_name"]
    await billing.fail("wrong_name", names=[name])
    assert (await admin.post(path(candidate, "/approve"))).json()["type"].endswith(":approval-in-doubt")
    await database.execute("UPDATE candidates SET status = 'rejected' WHERE company_name = $1", name)
    return candidate, path(candidate, "/approval/resolve")


async def test_linking_for_a_decided_candidate_ends_the_approval_with_an_orphan(admin, overruled, database):
    candidate, resolve = overruled
    link = {"resolution": "link", "provider_id": 2**31 - 1}

    answers = [await admin.post(resolve, json=link) for _ in range(2)]

    assert [answer.json()["type"].rpartition(":")[2] for answer in answers] == [
        "candidate-changed",
        "candidate-not-pending",
    ]
    record = (await admin.get(path(candidate))).json()
    assert (record["status"], record["provider_id"], record["approval"]) == ("rejected", None, None)
    events = (await admin.get(path(candidate, "/approval/events"))).json()["events"]
    assert [event["event"] for event in events] == ["orphaned", "in_doubt", "requested"]
    await database.execute(FORGET_ORPHANS)  # no other process sweeps


async def test_let_go_for_a_decided_candidate_ends_the_approval(admin, overruled):
    candidate, resolve = overruled

    answer = await admin.post(resolve, json={"resolution": "let_go"})

    assert answer.status_code == 200
    record = (await admin.get(path(candidate))).json()
    assert (record["status"], record["approval"]) == ("rejected", None)
    events = (await admin.get(path(candidate, "/approval/events"))).json()["events"]
    assert [event["event"] for event in events] == ["let_go", "in_doubt", "requested"]


async def test_a_provider_linked_elsewhere_is_no_orphan_of_a_decided_candidate(admin, overruled, register, database):
    candidate, resolve = overruled
    other = (await admin.post(path(await register(), "/approve"))).json()

    answer = await admin.post(resolve, json={"resolution": "link", "provider_id": other["provider_id"]})

    assert answer.json()["type"].endswith(":candidate-changed")
    events = (await admin.get(path(candidate, "/approval/events"))).json()["events"]
    assert [event["event"] for event in events] == ["in_doubt", "requested"]


async def test_an_approval_held_until_a_time_far_ahead_is_taken_over(admin, register, billing, database):
    """As if the database's clock had been set back by an hour."""
    candidate = await register()
    await billing.fail("fail_500", times=1, names=[candidate["company_name"]])
    await admin.post(path(candidate, "/approve"))
    await database.execute(HOLD_FOR, candidate["candidate_id"], "1 hour")

    async def approved():
        return (await admin.get(path(candidate))).json()["status"] == "approved"

    await until(approved)


async def test_one_that_was_held_until_then_can_be_resolved_and_rejected(admin, register, billing, database):
    candidate = await register()
    await billing.fail("fail_500", times=1, names=[candidate["company_name"]])
    await admin.post(path(candidate, "/approve"))
    await billing.fail("wrong_name", names=[candidate["company_name"]])
    await database.execute(HOLD_FOR, candidate["candidate_id"], "1 hour")

    async def resolved():
        body = {"resolution": "let_go"}
        return (await admin.post(path(candidate, "/approval/resolve"), json=body)).status_code == 200

    await until(resolved)
    assert (await admin.post(path(candidate, "/reject"))).status_code == 200


async def test_a_provider_that_is_anothers_is_left_to_an_admin(admin, register, billing):
    first, second = await register(), await register()
    provider_id = (await admin.post(path(first, "/approve"))).json()["provider_id"]
    await billing.fail("bad_id", times=1, bad_id=provider_id, names=[second["company_name"]])

    response = await admin.post(path(second, "/approve"))

    assert response.json()["type"].endswith(":approval-in-doubt")
    assert (await admin.get(path(second))).json()["status"] == "pending"


async def test_a_resolution_honours_if_match(admin, in_doubt):
    path_ = path(in_doubt, "/approval/resolve")
    resolution = {"resolution": "let_go"}

    stale = await admin.post(path_, json=resolution, headers={"If-Match": '"9"'})
    fresh = await admin.post(path_, json=resolution, headers={"If-Match": '"1"'})

    assert (stale.status_code, fresh.status_code) == (412, 200)


async def test_a_resolution_that_is_refused_is_not_repeated(admin, in_doubt):
    response = await admin.post(path(in_doubt, "/approval/resolve"), json={"resolution": "my secret \u202e"})

    assert response.status_code == 422
    assert "my secret" not in response.text
    assert [error["field"] for error in response.json()["errors"]] == ["resolution"]
