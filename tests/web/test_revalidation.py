"""If-None-Match: records, lists and events that a client has are not sent again."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from provider_registration.web.preconditions import Revalidation, etag

KEPT = {"cache-control": "private, no-cache", "vary": "Authorization, Cookie"}


@pytest.mark.parametrize(
    ("lines", "has_it"),
    [
        ([], False),
        (['"1"'], True),
        (['W/"1"'], True),
        (['"0", W/"1"'], True),
        (['"0"', '"1"'], True),
        (["*"], True),
        ([" * "], True),
        (['"1", *'], True),
        (['"0", *'], False),
        (['w/"1"'], False),
        (["1"], False),
        (['"1-0123456789abcdef"'], False),
        ([""], False),
        ([","], False),
    ],
)
def test_tags_are_compared_weakly(lines, has_it):
    response = Revalidation(lines).respond("{}", tag='"1"', headers={"Link": "<x>"})

    assert response.status_code == (304 if has_it else 200)
    assert response.body == (b"" if has_it else b"{}")
    assert response.headers["etag"] == '"1"'
    assert response.headers["link"] == "<x>"
    assert KEPT.items() <= dict(response.headers).items()
    assert ("content-type" in response.headers) is not has_it


@pytest.fixture(params=["record", "list", "events", "feed"])
async def path(request, admin, register):
    candidate = (await register())["candidate_id"]
    while not (await admin.get(f"/candidates/{candidate}/events")).json()["events"][0]["sequence"]:
        await asyncio.sleep(0.05)
    return {
        "record": f"/candidates/{candidate}",
        "list": "/candidates?limit=3",
        "events": f"/candidates/{candidate}/events?limit=1",
        "feed": "/events?limit=1",
    }[request.param]


async def test_what_a_client_has_is_not_sent_again(admin, path):
    first = await admin.get(path)
    again = await admin.get(path, headers={"If-None-Match": f'"x", {first.headers["etag"]}'})
    weak = await admin.head(path, headers={"If-None-Match": f"W/{first.headers['etag']}"})
    other = await admin.get(path, headers={"If-None-Match": '"other"'})

    assert (again.status_code, again.content, weak.status_code, weak.content) == (304, b"", 304, b"")
    assert other.status_code == 200
    for response in (first, again, weak, other):
        assert KEPT.items() <= dict(response.headers).items()
        assert response.headers["etag"] == first.headers["etag"]
        assert response.headers.get("link") == first.headers.get("link")


async def test_only_these_reads_may_be_kept(admin, anonymous, path):
    refused = await anonymous.get(path, headers={"If-None-Match": "*"})
    others = [await admin.get(each) for each in ("/approvals", "/audit?limit=1", "/statistics", "/candidates?limit=0")]

    assert refused.status_code == 401
    for response in (refused, *others):
        assert response.headers["cache-control"] == "no-store"
        assert "etag" not in response.headers


async def test_a_decision_changes_the_tag(admin, register):
    path = f"/candidates/{(await register())['candidate_id']}"
    before = (await admin.get(path)).headers["etag"]
    await admin.post(f"{path}/reject")
    after = await admin.get(path, headers={"If-None-Match": before})

    assert (before, after.status_code, after.headers["etag"]) == ('"1"', 200, '"2"')


async def test_while_an_approval_stands_every_change_of_the_record_changes_the_tag(
    admin, register, migrated_database_url
):
    candidate = (await register())["candidate_id"]
    path = f"/candidates/{candidate}"
    connection = await asyncpg.connect(migrated_database_url)
    await connection.execute(
        """
        INSERT INTO approval_intents
            (candidate_id, idempotency_key, provider_name, requested_by, next_attempt_at, in_doubt_since)
        SELECT $1, gen_random_uuid(), gen_random_uuid()::text, id, now(), now() FROM users LIMIT 1
        """,
        candidate,
    )
    first = await admin.get(path)
    same = await admin.get(path, headers={"If-None-Match": first.headers["etag"]})
    await connection.execute("UPDATE approval_intents SET attempts = attempts + 1 WHERE candidate_id = $1", candidate)
    changed = await admin.get(path, headers={"If-None-Match": first.headers["etag"]})
    stale = await admin.post(f"{path}/reject", headers={"If-Match": '"2"'})
    current = await admin.post(f"{path}/reject", headers={"If-Match": first.headers["etag"]})
    await connection.execute("DELETE FROM approval_intents WHERE candidate_id = $1", candidate)
    after = await admin.get(path)
    rejected = await admin.post(f"{path}/reject", headers={"If-Match": f"W/{first.headers['etag']}"})
    await connection.close()

    assert first.headers["etag"] == etag(1, first.text)
    assert (same.status_code, changed.status_code) == (304, 200)
    assert changed.headers["etag"] not in ('"1"', first.headers["etag"])
    assert [each.json()["type"].rpartition(":")[2] for each in (stale, current)] == [
        "version-mismatch",
        "approval-needs-resolution",
    ]
    assert (after.headers["etag"], rejected.status_code) == ('"1"', 200)
