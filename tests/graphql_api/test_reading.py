"""Queries return what the API returns, with a fixed number of statements."""

from __future__ import annotations

import asyncio

from graphql import GraphQLObjectType, get_named_type

from provider_registration.candidates.schemas import CandidateFilterQuery
from provider_registration.graphql_api.fields import make_schema

CANDIDATE = """candidate_id status company_name contact_email phone products truck_count capacity_tons_per_day location
    created_at updated_at provider_id version rejection_reason
    approval { state requested_at attempts next_attempt_at last_error }"""
EVENTS = "events { id sequence type at actor { kind id name } version data } pagination { next_cursor }"


async def test_a_candidate_is_the_same_as_in_the_api(viewer, admin, register, ask):
    candidate_id = (await register())["candidate_id"]
    await admin.post(f"/candidates/{candidate_id}/approve")

    found = await ask(viewer, f"query ($id: ID!) {{ candidate(candidate_id: $id) {{ {CANDIDATE} }} }}", id=candidate_id)

    assert found["candidate"] == (await viewer.get(f"/candidates/{candidate_id}")).json()
    assert found["candidate"]["provider_id"] > 0


async def test_a_list_goes_on_with_its_cursor(viewer, register, ask):
    place = f"Ort {(await register())['candidate_id']}"
    for _ in range(3):
        await register(location=place)
    query = f"""query ($place: String, $cursor: String) {{
        candidates(filter: {{q: $place, status: pending}}, sort: "created_at", limit: 2, cursor: $cursor) {{
            candidates {{ {CANDIDATE} }}
            pagination {{ total limit offset page page_size total_pages next_cursor }}
        }}
    }}"""
    parameters = {"q": place, "status": "pending", "sort": "created_at", "limit": 2}

    first = (await ask(viewer, query, place=place))["candidates"]
    second = (await ask(viewer, query, place=place, cursor=first["pagination"]["next_cursor"]))["candidates"]

    assert first == (await viewer.get("/candidates", params=parameters)).json()
    assert [len(each["candidates"]) for each in (first, second)] == [2, 1]
    assert second["pagination"]["next_cursor"] is None


def test_every_filter_of_the_list_is_there():
    filters = make_schema().get_type("CandidateFilter")
    assert set(filters.fields) == set(CandidateFilterQuery.model_fields)


def test_every_record_has_the_fields_of_the_api(contract):
    types = make_schema().type_map
    for name, schema in contract.document["components"]["schemas"].items():
        kind = types.get(name.removesuffix("Response"))
        if not isinstance(kind, GraphQLObjectType) or name.startswith("GraphQL"):
            continue
        more = {"events", "similar"} if kind.name == "Candidate" else set()
        assert set(kind.fields) - more == set(schema["properties"]), name
        for field in set(kind.fields) - more:
            is_null = {"type": "null"} in schema["properties"][field].get("anyOf", [])
            assert str(kind.fields[field].type).endswith("!") is not (is_null or field == "total_is_exact"), field
            assert get_named_type(kind.fields[field].type)


async def test_events_are_the_same_as_in_the_api(viewer, auditor, admin, register, billing, ask):
    candidate = await register()
    candidate_id = candidate["candidate_id"]
    await billing.fail("refuse_400", times=1)
    await admin.post(f"/candidates/{candidate_id}/approve")
    query = f'{{ candidate(candidate_id: "{candidate_id}") {{ events(limit: 2) {{ {EVENTS} }} }} }}'

    for client in (viewer, auditor):
        found = (await ask(client, query))["candidate"]["events"]
        expected = (await client.get(f"/candidates/{candidate_id}/events", params={"limit": 2})).json()
        assert [event["id"] for event in found["events"]] == [event["id"] for event in expected["events"]]
        assert [event["data"] for event in found["events"]] == [event["data"] for event in expected["events"]]
        assert found["pagination"] == expected["pagination"]
    cursor = found["pagination"]["next_cursor"]
    rest = await ask(viewer, query.replace("limit: 2", f'limit: 2, cursor: "{cursor}"'))
    assert "candidate.registered" in [event["type"] for event in rest["candidate"]["events"]["events"]]


async def test_a_page_with_events_and_similar_companies_needs_three_statements(viewer, register, ask, statements):
    for _ in range(12):
        await register()
    query = """query ($limit: Int) { candidates(limit: $limit) { candidates {
        company_name events(limit: 3) { events { type } } similar { company_name reasons score }
    } } }"""

    found = {}
    for limit in (1, 4):
        statements.clear()
        found[limit] = await ask(viewer, query, limit=limit)
        assert len(statements) == 3, statements
    statements.clear()
    page = await ask(viewer, query.replace("similar { company_name reasons score }", ""), limit=12)

    assert len(statements) == 2
    assert len(page["candidates"]["candidates"]) == 12
    assert all(
        each["events"]["events"][-1]["type"] == "candidate.registered" for each in page["candidates"]["candidates"]
    )


async def test_many_candidates_by_id_need_one_statement(viewer, register, ask, statements):
    ids = [(await register())["candidate_id"] for _ in range(10)]
    fields = " ".join(
        f'c{number}: candidate(candidate_id: "{each}") {{ candidate_id events {{ events {{ type }} }} }}'
        for number, each in enumerate(ids)
    )

    found = await ask(viewer, f"{{ {fields} }}")

    assert [found[f"c{number}"]["candidate_id"] for number in range(10)] == ids
    assert len(statements) == 2


async def test_similar_companies_are_the_same_as_in_the_api(viewer, register, ask):
    phone = "+49 221 7350 4411"
    ids = [(await register(phone=phone))["candidate_id"] for _ in range(2)]
    fields = "candidate_id company_name status rejection_reason updated_at reasons score"
    query = f'{{ candidate(candidate_id: "{ids[0]}") {{ similar {{ {fields} }} }} }}'
    async with asyncio.timeout(20):
        while not (expected := (await viewer.get(f"/candidates/{ids[0]}/similar")).json()["similar"]):
            await asyncio.sleep(0.05)

    assert (await ask(viewer, query))["candidate"]["similar"] == expected


async def test_statistics_are_the_same_as_in_the_api(admin, ask):
    figures = """registered approved rejected time_to_decision { p50_seconds p90_seconds p95_seconds }
        approvals { approved linked failed in_doubt let_go orphaned } backlog { pending }"""
    query = f"""query ($by: Grouping) {{ statistics(interval: week, by: $by) {{
        from to interval by is_complete series {{ group name totals {{ {figures} }} buckets {{ start {figures} }} }}
    }} }}"""
    for by in (None, "product", "decided_by", "reason"):
        found = (await ask(admin, query, by=by))["statistics"]
        expected = (await admin.get("/statistics", params={"interval": "week"} | ({"by": by} if by else {}))).json()
        for series in expected["series"]:
            for each in (series["totals"], *series["buckets"]):
                if each["backlog"]:
                    del each["backlog"]["oldest_age_seconds"]
        assert found == expected


async def test_unfinished_approvals_are_the_same_as_in_the_api(admin, register, billing, ask):
    candidate_id = (await register())["candidate_id"]
    await billing.fail("fail_503", times=100)
    await admin.post(f"/candidates/{candidate_id}/approve")
    query = """{ approvals(limit: 100) {
        approvals { candidate_id idempotency_key provider_name requested_by actor { kind id name } requested_at state }
        pagination { total limit offset page page_size total_pages next_cursor }
    } }"""

    found = (await ask(admin, query))["approvals"]
    expected = (await admin.get("/approvals", params={"limit": 100})).json()

    assert found["pagination"] == expected["pagination"]
    assert [each["candidate_id"] for each in found["approvals"]] == [
        each["candidate_id"] for each in expected["approvals"]
    ]
    assert candidate_id in [each["candidate_id"] for each in found["approvals"]]
