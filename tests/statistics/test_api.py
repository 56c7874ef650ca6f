"""GET /statistics: its parameters, its groups, and who may read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from provider_registration.candidates.company import Product
from provider_registration.statistics.models import Reason

TODAY = datetime.now(UTC).date()


async def totals(client, **parameters):
    response = await client.get("/statistics", params=parameters)
    assert response.status_code == 200, response.text
    return {series["group"]: series["totals"] for series in response.json()["series"]}


async def test_what_happens_is_counted_at_once(admin, register):
    before = (await totals(admin))[None]
    candidates = [(await register())["candidate_id"] for _ in range(2)]
    await admin.post(f"/candidates/{candidates[0]}/approve")
    await admin.post(f"/candidates/{candidates[1]}/reject")
    after = (await totals(admin))[None]

    changes = {name: after[name] - before[name] for name in ("registered", "approved", "rejected")}
    assert changes == {"registered": 2, "approved": 1, "rejected": 1}
    assert after["approvals"]["approved"] == before["approvals"]["approved"] + 1
    assert after["backlog"]["pending"] == before["backlog"]["pending"]
    assert set(after["time_to_decision"]) == {"p50_seconds", "p90_seconds", "p95_seconds"}


async def test_without_parameters_it_is_the_last_thirty_days(viewer):
    found = (await viewer.get("/statistics")).json()

    assert (found["from"], found["to"]) == (str(TODAY - timedelta(days=29)), str(TODAY))
    [series] = found["series"]
    assert [bucket["start"] for bucket in series["buckets"]] == [
        str(TODAY - timedelta(days=ago)) for ago in reversed(range(30))
    ]


async def test_products_and_reasons_are_all_there(viewer):
    assert set(await totals(viewer, by="product")) == set(Product)
    assert set(await totals(viewer, by="reason")) == set(Reason)


async def test_reasons_of_staff_count_by_code_and_others_as_other(admin, register):
    before = await totals(admin, by="reason")
    for reason in ("We could not verify the company.", "Mr Pérez said no", "", None):
        candidate = (await register())["candidate_id"]
        await admin.post(f"/candidates/{candidate}/reject", json={"reason": reason} if reason is not None else {})
    after = await totals(admin, by="reason")

    changes = {code: after[code]["rejected"] - before[code]["rejected"] for code in after}
    assert {code: change for code, change in changes.items() if change} == {"not_verified": 1, "other": 1, "none": 2}


async def test_people_are_for_auditors_and_admins(admin, auditor, viewer, register):
    await admin.post(f"/candidates/{(await register())['candidate_id']}/reject")

    people = (await auditor.get("/statistics", params={"by": "decided_by"})).json()["series"]
    refused = await viewer.get("/statistics", params={"by": "decided_by"})

    assert any("@" in (person["name"] or "") for person in people)
    assert refused.status_code == 403
    assert refused.json()["type"].endswith(":role-not-allowed")


async def test_programs_have_the_names_of_their_keys(admin, register):
    made = (await admin.post("/api-keys", json={"name": "ERP", "role": "admin"})).json()
    candidate = (await register())["candidate_id"]
    await admin.post(f"/candidates/{candidate}/reject", headers={"Authorization": f"Bearer {made['key']}"})

    people = (await admin.get("/statistics", params={"by": "decided_by"})).json()["series"]

    assert {each["group"]: each["name"] for each in people}[made["api_key_id"]] == "ERP"


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-03-02&to=2026-03-01",
        "from=2025-01-01&to=2026-01-02",  # 367 days
        "from=2020-01-01&to=2026-01-02&interval=month",
        "from=1999-12-31&to=2000-01-02",
        "to=2100-01-01",
        "from=20260301",
        "from=1772323200",
        "from=2026-02-30",
        "from=2026-03-01T00:00:00Z",
        "interval=year",
        "by=company_name",
        "from=2026-03-01&from=2026-03-02",
        "unknown=1",
    ],
)
async def test_bad_periods_are_refused(viewer, query):
    response = await viewer.get(f"/statistics?{query}")

    assert response.status_code == 422, response.text
    assert response.json()["type"].endswith(":invalid-request")


@pytest.mark.parametrize(
    ("query", "buckets"),
    [
        ("from=2024-01-01&to=2024-12-31", 366),
        ("from=2021-01-01&to=2025-12-31&interval=month", 60),
        ("from=2024-12-31&to=2025-01-06&interval=week", 2),
        ("from=2099-12-01&to=2099-12-31", 31),
        ("to=2000-01-01", 30),
    ],
)
async def test_every_bucket_of_a_period_is_there(viewer, query, buckets):
    [series] = (await viewer.get(f"/statistics?{query}")).json()["series"]

    assert len(series["buckets"]) == buckets
