"""Who may read what through GraphQL, and where its schema is shown."""

from __future__ import annotations

import asyncio
import hashlib
import time
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
from graphql import build_client_schema, get_introspection_query
from sqlalchemy import text

from provider_registration import settings as settings_module
from provider_registration.app import create_app
from provider_registration.graphql_api import executing, responses
from provider_registration.graphql_api.executing import GraphQLExecutor
from provider_registration.graphql_api.fields import make_schema
from tests.console.conftest import Person
from tests.service import PASSWORD

NOT_ALLOWED = "role-not-allowed"
ANYTHING = {"query": "{ __typename }"}

FIELDS = {
    "{ candidates { pagination { total } } }": (None, None, None),
    '{ candidate(candidate_id: "%s") { version } }': (None, None, None),
    '{ candidate(candidate_id: "%s") { events { events { data } } similar { score } } }': (None, None, None),
    "{ statistics { is_complete } }": (None, None, None),
    "{ statistics(by: decided_by) { is_complete } }": (NOT_ALLOWED, None, None),
    "{ approvals { pagination { total } } }": (NOT_ALLOWED, None, None),
}


@pytest.mark.parametrize("query", FIELDS)
async def test_each_role_may_read_what_it_may_read_in_the_api(viewer, auditor, admin, register, query):
    candidate_id = (await register())["candidate_id"]
    for client, code in zip((viewer, auditor, admin), FIELDS[query], strict=True):
        response = await client.post("/graphql", json={"query": query.replace("%s", candidate_id)})
        found = response.json()
        assert response.status_code == 200
        assert [error["extensions"]["code"] for error in found.get("errors", [])] == ([code] if code else [])
        assert all(value is None for value in found["data"].values()) is bool(code)


async def test_every_field_of_a_query_is_in_this_table():
    known = " ".join(FIELDS)
    assert all(f"{{ {field}" in known for field in make_schema().query_type.fields)


async def test_an_error_of_one_field_leaves_the_others(viewer, register):
    candidate_id = (await register())["candidate_id"]
    query = f"""{{ a: candidate(candidate_id: "{candidate_id}") {{ version }}
        b: candidate(candidate_id: "{uuid4()}") {{ version }} approvals {{ pagination {{ total }} }} }}"""

    found = (await viewer.post("/graphql", json={"query": query})).json()

    assert found["data"] == {"a": {"version": 1}, "b": None, "approvals": None}
    codes = {error["path"][0]: error["extensions"]["code"] for error in found["errors"]}
    assert codes == {"b": "candidate-not-found", "approvals": NOT_ALLOWED}


async def test_strangers_are_refused_before_their_body_is_read(anonymous, statements):
    response = await anonymous.post("/graphql", content=b"no JSON")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert not statements


async def test_the_cookie_of_the_console_is_not_accepted(with_graphql, run_service, users):
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, "admin")
    with_console = with_graphql.model_copy(update={"admin_pages": True})
    async with run_service(with_console) as service, httpx.AsyncClient(base_url=service.url) as client:
        browser = Person(client)
        assert (await browser.sign_in(email)).status_code == 200
        assert browser.cookies
        assert (await browser.ask("POST", "/graphql", json=ANYTHING)).status_code == 401


async def test_api_keys_are_accepted_until_they_are_revoked(admin, service, connect):
    made = (await admin.post("/api-keys", json={"name": "BI", "role": "viewer"})).json()
    async with connect(service.url, made["key"]) as program:
        assert (await program.post("/graphql", json=ANYTHING)).json() == {"data": {"__typename": "Query"}}
        await admin.delete(f"/api-keys/{made['api_key_id']}")
        assert (await program.post("/graphql", json=ANYTHING)).status_code == 401


async def test_the_schema_is_shown_where_docs_are(viewer):
    response = await viewer.post("/graphql", json={"query": get_introspection_query()})
    schema = build_client_schema(response.json()["data"])
    assert set(schema.query_type.fields) == {"candidates", "candidate", "approvals", "statistics"}


@pytest.mark.asvs("V4.3.2")
@pytest.mark.parametrize(
    "query",
    [
        "{ __schema { types { name } } }",
        '{ __type(name: "Candidate") { name } }',
        "{ a: __schema { types { name } } }",
        "{ ...a } fragment a on Query { __schema { types { name } } }",
        "{ ... { __schema { types { name } } } }",
    ],
)
async def test_the_schema_is_not_shown_without_docs(with_graphql, run_service, tokens, query):
    async with run_service(with_graphql.model_copy(update={"docs_access": "off"})) as service:
        async with httpx.AsyncClient(base_url=service.url) as client:
            client.headers["Authorization"] = f"Bearer {tokens['admin']}"
            refused = await client.post("/graphql", json={"query": query})
            misspelled = await client.post("/graphql", json={"query": "{ candidatess { pagination { total } } }"})
            assert (await client.get("/graphiql")).status_code == 404
            assert (await client.post("/graphql", json=ANYTHING)).status_code == 200
    assert {error["extensions"]["code"] for error in refused.json()["errors"]} == {"invalid-request"}
    assert "data" not in refused.json()
    assert "Did you mean" not in misspelled.text


async def test_deep_introspection_is_refused(viewer, refused):
    query = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }"
    assert await refused(viewer, query) == ["invalid-request"]


async def test_only_allowed_documents_are_executed(service, make_graphql, viewer, refused, ask, statements):
    allowed = "{ candidates { pagination { total } } }"
    before = service.app.services.get(GraphQLExecutor)
    hashes = frozenset([hashlib.sha256(allowed.encode()).hexdigest()])
    service.app.services.add(make_graphql(allowed=hashes))

    assert await refused(viewer, f"{allowed} ") == ["graphql-not-allowed"]
    assert await refused(viewer, "{") == ["graphql-not-allowed"]
    assert not statements
    await ask(viewer, allowed)
    assert statements
    service.app.services.add(before)


async def test_a_document_has_a_time_limit(make_graphql, monkeypatch):
    monkeypatch.setattr(executing, "MAX_SECONDS", 0.5)
    graphql = make_graphql()

    async def hang(*_, **__):
        await asyncio.sleep(30)

    graphql._sources.candidates.list_candidates = hang
    request = SimpleNamespace(query="{ candidates { pagination { total } } }", variables=None, operation_name=None)
    started = time.monotonic()
    answer = await graphql.execute(request, SimpleNamespace(may_audit=False, credential_id=uuid4()))
    assert '"code":"graphql-timeout"' in answer
    assert '"retry_after":1' in answer
    assert time.monotonic() - started < 10


async def test_an_unavailable_database_is_an_error_of_the_field(make_graphql, database, monkeypatch):
    graphql = make_graphql()
    request = SimpleNamespace(query="{ candidates { pagination { total } } }", variables=None, operation_name=None)
    monkeypatch.setattr(executing, "MAX_SECONDS", 30)
    async with database.transaction() as session:
        await session.execute(text("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE"))
        monkeypatch.setattr(database, "time_limit", 0.3)
        answer = await graphql.execute(request, SimpleNamespace(may_audit=False, credential_id=uuid4()))
    assert '"code":"database-unavailable"' in answer
    assert '"path":["candidates"]' in answer
    assert "asyncpg" not in answer


async def test_an_unexpected_error_shows_nothing_of_the_inside(make_graphql, caplog):
    graphql = make_graphql()

    async def fail(*_, **__):
        raise RuntimeError("hunter2")

    graphql._sources.candidates.list_candidates = fail
    request = SimpleNamespace(query="{ candidates { pagination { total } } }", variables=None, operation_name=None)
    answer = await graphql.execute(request, SimpleNamespace(may_audit=False, credential_id=uuid4()))
    assert '"code":"internal-error"' in answer
    assert "hunter2" not in answer
    assert responses.__name__ in [record.name for record in caplog.records]


async def test_other_requests_are_served_while_a_large_document_is_executed(make_graphql):
    graphql = make_graphql()

    request = SimpleNamespace(query=get_introspection_query(), variables=None, operation_name=None)
    caller = SimpleNamespace(may_audit=False, credential_id=uuid4())
    running = asyncio.gather(*(graphql.execute(request, caller) for _ in range(10)))
    longest, before = 0.0, (began := time.perf_counter())
    while not running.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    await running
    assert longest < (before - began) / 2  # executing one takes a tenth


def test_without_the_setting_there_is_no_route_and_no_import(settings):
    paths = {route.path for route in create_app(settings).routes if hasattr(route, "path")}
    assert not [path for path in paths if "graph" in path]


def test_the_setting_needs_the_extra(monkeypatch, settings):
    monkeypatch.setattr(settings_module, "GRAPHQL_MODULES", ("not_installed",))
    values = settings.model_dump() | {"graphql": True}
    with pytest.raises(ValueError, match=r"install provider-registration\[graphql\]"):
        type(settings)(_env_file=None, **values)


@pytest.mark.parametrize("value", ["abc", "g" * 64, "0" * 63, f"{'0' * 64};{'1' * 64}"])
def test_a_wrong_hash_is_refused_at_the_start(settings, value):
    with pytest.raises(ValueError, match="not a SHA-256 hash"):
        type(settings)(_env_file=None, **(settings.model_dump() | {"graphql_allowed": value}))
