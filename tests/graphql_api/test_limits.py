"""Documents that ask for too much are refused, and counted, before any statement."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest

from provider_registration.graphql_api.fields import make_schema
from provider_registration.graphql_api.limits import (
    MAX_ALIASES,
    MAX_COST,
    MAX_DEPTH,
    MAX_TOKENS,
    check_size,
    parse_bounded,
)

LIMIT = "graphql-limit-exceeded"
SCHEMA = make_schema()
ID = uuid4()


def nested(levels):
    return "{ a " * (levels - 1) + "{ b" + " }" * levels


def fragments(count):
    """Fragments of which each uses the next one twice: 2 ** count fields."""
    chain = [f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(count)]
    return f"{{ ...f0 }} {' '.join(chain)} fragment f{count} on Query {{ __typename }}"


TOO_MUCH = {
    "11 levels": nested(11),
    "9 levels": nested(9),
    "400 levels": nested(400),
    "1,000 aliases": "{" + " ".join(f'a{n}: candidate(candidate_id: "{ID}") {{ version }}' for n in range(1000)) + "}",
    "31 aliases": "{" + " ".join(f"a{n}: __typename" for n in range(31)) + "}",
    "aliases in fragments": "{ ...a ...b } fragment a on Query {"
    + " ".join(f"a{n}: __typename" for n in range(16))
    + "} fragment b on Query {"
    + " ".join(f"b{n}: __typename" for n in range(16))
    + "}",
    "100,000 tokens": "{" + "a " * 30_000 + "}",
    "nested values": "{ candidates(filter: " + "[" * 400 + ") { pagination { total } } }",
    "comments": "#\n" * 1000 + "{ __typename }",
    "fragments in each other": "{ ...f0 } "
    + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(45))
    + " fragment f45 on Query { __typename }",
    "fragments that double": fragments(30),
    "levels in fragments": "{ ...a } "
    "fragment a on Query { candidates { candidates { events { events { actor { ...b } } } } } } "
    "fragment b on Actor { a { b { c { d } } } }",
    "large lists in large lists": "{ candidates(limit: 100) { candidates { ...a } } } "
    "fragment a on Candidate { events(limit: 100) { events { id at } } }",
    "the largest lists for a wrong limit": "query ($n: Int) { candidates(limit: $n) { candidates { ...a } } } "
    "fragment a on Candidate { events(limit: $n) { events { id at } } }",
    "similar companies of many": "{ candidates { candidates { similar { company_name } } } }",
    "statistics many times": "{"
    + " ".join(f"s{n}: statistics(by: product) {{ series {{ buckets {{ approved start }} }} }}" for n in range(20))
    + "}",
}


@pytest.mark.asvs("V4.3.1")
@pytest.mark.parametrize("query", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_too_much_is_refused_without_a_statement(viewer, refused, statements, query):
    assert await refused(viewer, query[:10_000], n="many") == [LIMIT]
    assert not statements


WRONG = {
    "a cycle": "{ ...a } fragment a on Query { ...b } fragment b on Query { __typename ...a }",
    "itself": "{ ...a } fragment a on Query { ...a }",
    "an unknown fragment": "{ ...a }",
    "an unknown field": "{ password }",
    "an unknown type": "{ ... on User { email } }",
    "a missing argument": "{ candidate { version } }",
    "a mutation": "mutation { approve }",
    "a subscription": "subscription { events }",
    "a definition": "type Query { a: Int }",
    "no GraphQL": "SELECT 1",
    "an open brace": "{ candidates {",
    "an open string": '{ candidates(sort: "',
    "a control character": "{ \x00 }",
    "only a comment": "# nothing",
    "a huge integer": "{ candidates(limit: " + "9" * 5000 + ") { pagination { total } } }",
    "a huge default": "query ($n: Int = " + "9" * 5000 + ") { candidates(limit: $n) { pagination { total } } }",
    "65 bits": "{ candidates(limit: 36893488147419103232) { pagination { total } } }",
    "a wrong enum": "{ candidates(filter: {status: withdrawn_by_nobody}) { pagination { total } } }",
    "a missing variable": "query ($id: ID!) { candidate(candidate_id: $id) { version } }",
    "two operations": "query a { __typename } query b { __typename }",
    "an unused fragment": "{ __typename } fragment a on Query { __typename }",
    "a wrong cursor": '{ candidates(cursor: "AAAA") { pagination { total } } }',
    "a wrong order": '{ candidates(sort: "password") { pagination { total } } }',
    "a limit of 0": "{ candidates(limit: 0) { pagination { total } } }",
    "a limit of 101": "{ candidates(limit: 101) { pagination { total } } }",
    "a wrong ID": '{ candidate(candidate_id: "1 OR 1=1") { version } }',
    "NUL in words": '{ candidates(filter: {q: "a\\u0000"}) { pagination { total } } }',
    "half a character": '{ candidates(filter: {q: "\\uD800"}) { pagination { total } } }',
    "a wrong time": '{ candidates(filter: {registered_from: "now"}) { pagination { total } } }',
    "a number as a time": "{ candidates(filter: {registered_from: 0}) { pagination { total } } }",
    "a wrong day": '{ statistics(from: "2026-02-30") { is_complete } }',
    "a period too long": '{ statistics(from: "2000-01-01", to: "2099-12-31") { is_complete } }',
}


@pytest.mark.parametrize("query", WRONG.values(), ids=WRONG)
async def test_a_wrong_document_is_refused_without_a_statement(viewer, refused, statements, query):
    assert set(await refused(viewer, query)) == {"invalid-request"}
    assert not statements


@pytest.mark.parametrize(
    "value", [0, -1, 101, 2**31, 10**400, 1.5, True, "1", [1], {"a": 1}, 1e300], ids=lambda value: str(value)[:20]
)
async def test_a_wrong_variable_is_refused_without_a_statement(viewer, refused, statements, value):
    query = "query ($n: Int) { candidates(limit: $n) { pagination { total } } }"
    assert set(await refused(viewer, query, n=value)) == {"invalid-request"}
    assert not statements


async def test_what_is_wrong_with_an_argument_is_told_as_in_the_api(viewer):
    query = "{ candidates(limit: 101) { pagination { total } } }"
    [error] = (await viewer.post("/graphql", json={"query": query})).json()["errors"]
    problem = (await viewer.get("/candidates", params={"limit": 101})).json()

    assert error["path"] == ["candidates"]
    assert error["locations"] == [{"line": 1, "column": 3}]
    assert error["extensions"]["errors"] == problem["errors"]


BODIES = {
    "a batch": b'[{"query": "{ __typename }"}]',
    "no query": b"{}",
    "an empty query": b'{"query": ""}',
    "a query twice": b'{"query": "{ a }", "query": "{ b }"}',
    "a number": b'{"query": 1}',
    "variables as a list": b'{"query": "{ __typename }", "variables": []}',
    "an unknown field": b'{"query": "{ __typename }", "id": 1}',
    "a deep variable": b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
    "half a character": b'{"query": "\\ud800"}',
    "a long operation name": json.dumps({"query": "{ __typename }", "operationName": "a" * 101}).encode(),
    "no JSON": b"{ __typename }",
    "no body": b"",
    "a long query": json.dumps({"query": "{ __typename }" + " " * 10_000}).encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_wrong_body_gets_a_problem(viewer, statements, body):
    response = await viewer.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["type"].endswith(":invalid-request")
    assert not statements


async def test_an_integer_with_thousands_of_digits_is_refused(viewer, statements):
    body = b'{"query": "query ($n: Int) { candidates(limit: $n) { pagination { total } } }", "variables": {"n": %s}}'
    response = await viewer.post("/graphql", content=body % (b"9" * 5000), headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 422)
    assert "invalid-request" in response.text
    assert not statements


async def test_other_ways_to_send_a_document_are_refused(viewer):
    query = "{ __typename }"
    assert (await viewer.get("/graphql", params={"query": query})).status_code == 405
    assert (await viewer.post("/graphql", data={"query": query})).status_code == 415
    assert (
        await viewer.post("/graphql", content=query, headers={"Content-Type": "application/graphql"})
    ).status_code == 415
    assert (await viewer.post("/graphql", json={"query": "#" * 65_536})).status_code == 413


def cost(query, **variables):
    return check_size(SCHEMA, parse_bounded(query), variables)


def test_the_cost_is_the_number_of_values_and_statements():
    one = "{ candidates(limit: %s) { candidates { version %s } } }"
    assert cost(one % (1, "")) == 1 + 200 + 2
    assert cost(one % (100, "")) == 1 + 200 + 100 * 2
    assert cost("query ($n: Int) { candidates(limit: $n) { candidates { version } } }", n=50) == 201 + 50 * 2
    assert cost("query ($n: Int = 30) { candidates(limit: $n) { candidates { version } } }") == 201 + 30 * 2
    assert cost("{ candidates { candidates { version } } }") == 201 + 20 * 2
    assert cost(one % (10, "events(limit: 5) { events { type } }")) == 201 + 10 * (2 + 1 + 5 * 2)
    fragment = "fragment a on Candidate { version }"
    assert cost(one % (10, "...a ...a") + fragment) == 201 + 10 * 4
    assert cost(one % (10, "... { version } ... on Candidate { version }")) == 201 + 10 * 4
    assert cost("{ statistics { series { group } } }") == 1001 + 32 * 2


def test_the_largest_of_several_operations_counts():
    small, large = "query a { __typename }", "query b { candidates { candidates { version } } }"
    assert cost(f"{small} {large}") == cost(f"{large} {small}") == cost(large)


def test_the_cost_is_that_of_the_value_which_a_variable_has():
    defaulted = "query ($n: Int = %s) { candidates(limit: $n) { candidates { version } } }"
    assert cost(defaulted % 1, n=100) == 201 + 100 * 2
    assert cost(defaulted % 100, n=1) == 201 + 1 * 2
    small, large = ("query {} ($n: Int = {}) {{ ...page }}".format(*each) for each in (("a", 1), ("b", 100)))
    fragment = "fragment page on Query { candidates(limit: $n) { candidates { version } } }"
    assert cost(f"{small} {large} {fragment}") == cost(f"{large} {small} {fragment}") == 201 + 100 * 2


@pytest.mark.parametrize("query", [*TOO_MUCH.values(), *WRONG.values(), "{" + "a " * (MAX_TOKENS - 2) + "}"])
async def test_no_document_takes_long_to_refuse(make_graphql, query):
    graphql = make_graphql()
    caller = SimpleNamespace(may_audit=False, credential_id=uuid4())
    started = time.process_time()
    await graphql.execute(SimpleNamespace(query=query[:10_000], variables=None, operation_name=None), caller)
    assert time.process_time() - started < 2


async def test_cost_counts_against_the_callers_limit(service, with_graphql, run_service, tokens, statements):
    limited = with_graphql.model_copy(update={"rate_limit_default": "20/hour"})
    versions = " ".join(f"a{n}: version" for n in range(30))
    query = f"{{ candidates(limit: 100) {{ candidates {{ {versions} }} }} }}"  # costs 3,301
    cheap = {"query": "{ __typename }"}
    async with run_service(limited) as other, httpx.AsyncClient(base_url=other.url) as client:
        client.headers["Authorization"] = f"Bearer {tokens['viewer']}"
        answers = [await client.post("/graphql", json={"query": query}) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]  # four requests each
        assert answers[-1].json()["type"].endswith(":too-many-requests")
        assert int(answers[-1].headers["Retry-After"]) > 0
        client.headers["Authorization"] = f"Bearer {tokens['auditor']}"
        assert (await client.post("/graphql", json=cheap)).status_code == 200


def test_the_limits_are_those_of_the_contract():
    assert (MAX_DEPTH, MAX_ALIASES, MAX_TOKENS, MAX_COST) == (8, 30, 500, 20_000)


async def test_an_ordinary_document_is_within_the_limits(viewer, ask):
    query = """query ($status: Status) { candidates(filter: {status: $status}, limit: 20) { candidates {
        candidate_id company_name contact_email phone products truck_count capacity_tons_per_day location
        created_at updated_at provider_id version rejection_reason approval { state attempts }
        events { events { id sequence type at actor { kind id name } version data } pagination { next_cursor } }
    } pagination { total next_cursor } } }"""
    await ask(viewer, query, status="pending")
