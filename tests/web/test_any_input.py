"""No input causes a 5xx, and every error response is a problem document."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROBLEM = "application/problem+json"
FIELDS = ["company_name", "contact_email", "phone", "products", "truck_count", "capacity_tons_per_day", "location"]
PRODUCTS = ["apples", "oranges", "grapes", "bananas", "mangoes"]

many = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
fewer = settings(many, max_examples=100)
fewest = settings(many, max_examples=50)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
integers_about_the_limits = st.sampled_from([-1, 0, 1, 2**31 - 1, 2**31, 2**63, 10**30])
addresses = (
    st.emails() | st.builds("{}@{}".format, st.text(), st.text()) | st.builds("{}@example.com".format, st.text())
)
field_values = (
    json_values
    | integers_about_the_limits
    | addresses
    | st.text(min_size=40, max_size=300)
    | st.lists(st.sampled_from([*PRODUCTS, "pears", ""]))
)


# What cannot be seen, which the service removes unless a script needs it: above all Default_Ignorable_Code_Point.
IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u2800\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text):
    """The text as it is stored, without characters that cannot be seen."""
    return unicodedata.normalize("NFC", IGNORABLE.sub("", unicodedata.normalize("NFC", text))).strip()


@pytest.fixture
def blocking_client(service):
    """A synchronous client in its own thread, because Hypothesis does not await."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def check_refusal(response, *statuses):
    assert response.status_code in statuses, response.text
    assert response.headers["Content-Type"] == PROBLEM
    assert response.json()["status"] == response.status_code


@pytest.mark.asvs("V2.2.2")
async def test_arbitrary_bytes_are_refused_as_registrations(blocking_client):
    @many
    @given(st.binary(max_size=2000))
    def check(body):
        response = blocking_client.post("/candidates", content=body, headers={"Content-Type": "application/json"})
        check_refusal(response, 422)

    await asyncio.to_thread(check)


@pytest.mark.asvs("V1.5.2")
async def test_arbitrary_json_is_refused_as_registrations(blocking_client):
    @many
    @given(json_values)
    def check(value):
        body = json.dumps(value).encode()
        response = blocking_client.post("/candidates", content=body, headers={"Content-Type": "application/json"})
        check_refusal(response, 422, 413)

    await asyncio.to_thread(check)


@pytest.mark.asvs("V1.1.2", "V1.2.3")
async def test_a_registration_with_arbitrary_fields_is_kept_as_sent_or_refused(blocking_client, registration):
    @many
    @given(
        changed=st.dictionaries(st.sampled_from(FIELDS), field_values, max_size=3),
        missing=st.sets(st.sampled_from(FIELDS), max_size=1),
        unknown=st.dictionaries(st.text(), json_values, max_size=1),
    )
    def check(changed, missing, unknown):
        sent = {name: value for name, value in registration(**changed).items() if name not in missing} | unknown
        body = json.dumps(sent).encode()
        response = blocking_client.post("/candidates", content=body, headers={"Content-Type": "application/json"})
        if response.status_code != 201:
            check_refusal(response, 422, 409, 413)
            return
        record = response.json()
        for name in ("company_name", "phone", "location"):
            assert visible(record[name] or "") == visible(sent.get(name) or "")
        for name in ("products", "truck_count", "capacity_tons_per_day"):
            assert record[name] == sent[name]

    await asyncio.to_thread(check)


async def test_arbitrary_logins_are_refused(blocking_client):
    texts = st.text(max_size=140)

    @fewest
    @given(username=texts | json_values, password=texts | json_values, as_form=st.booleans())
    def check(username, password, as_form):
        fields = {"username": username, "password": password}
        if as_form:
            fields = {name: str(value).encode("utf-8", "surrogatepass") for name, value in fields.items()}
            response = blocking_client.post("/auth/login", data=fields)
        else:
            body = json.dumps(fields).encode()
            response = blocking_client.post("/auth/login", content=body, headers={"Content-Type": "application/json"})
        check_refusal(response, 401, 422)

    await asyncio.to_thread(check)


async def test_arbitrary_reasons_reject_or_are_refused(blocking_client, tokens):
    headers = {"Authorization": f"Bearer {tokens['admin']}", "Content-Type": "application/json"}

    @fewest
    @given(
        body=st.binary(max_size=100)
        | st.fixed_dictionaries({"reason": field_values}).map(lambda v: json.dumps(v).encode())
    )
    def check(body):
        response = blocking_client.post(f"/candidates/{uuid4()}/reject", content=body, headers=headers)
        check_refusal(response, 404, 422)

    await asyncio.to_thread(check)


async def test_arbitrary_queries_list_or_are_refused(blocking_client, tokens):
    headers = {"Authorization": f"Bearer {tokens['viewer']}"}
    names = st.sampled_from(["limit", "offset", "page", "page_size", "status", "product"]) | st.text(max_size=10)
    values = (
        st.integers().map(str)
        | integers_about_the_limits.map(str)
        | st.sampled_from(["pending", "apples", "", "0x10", "1e2", "1_0", "+1", " 1", "\u0661", "null", "1.0"])
        | st.text(max_size=20)
    )

    @fewer
    @given(st.lists(st.tuples(names, values), max_size=4))
    def check(pairs):
        query = "&".join(f"{quote(n, errors='replace')}={quote(v, errors='replace')}" for n, v in pairs)
        response = blocking_client.get(f"/candidates?{query}", headers=headers)
        if response.status_code != 200:
            check_refusal(response, 422)

    await asyncio.to_thread(check)


async def test_arbitrary_query_strings_list_or_are_refused(blocking_client, tokens):
    headers = {"Authorization": f"Bearer {tokens['viewer']}"}

    @fewer
    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60))
    def check(query):
        response = blocking_client.get(httpx.URL("/candidates", query=query.encode()), headers=headers)
        if response.status_code != 200:
            check_refusal(response, 422)

    await asyncio.to_thread(check)


async def test_arbitrary_paths_are_unknown_or_refused(blocking_client, tokens):
    headers = {"Authorization": f"Bearer {tokens['admin']}"}

    @fewer
    @given(st.binary(min_size=1, max_size=40), st.sampled_from(["", "/approve", "/reject", "/approval/events"]))
    def check(segment, suffix):
        path = "".join(f"%{byte:02X}" for byte in segment)
        response = blocking_client.request("POST" if suffix else "GET", f"/candidates/{path}{suffix}", headers=headers)
        check_refusal(response, 404, 405, 422)
        assert len(response.json()["instance"]) < 1000

    await asyncio.to_thread(check)


async def test_arbitrary_headers_change_nothing(blocking_client, tokens, register):
    candidate = await register()
    values = st.binary(max_size=60).map(lambda value: bytes(c for c in value if c >= 32 and c != 127).strip())

    @fewer
    @given(if_match=values, request_id=values, accept=values, authorization=values)
    def check(if_match, request_id, accept, authorization):
        headers = {"X-Request-ID": request_id, "Accept": accept}
        anonymous = blocking_client.get(
            f"/candidates/{candidate['candidate_id']}", headers=headers | {"Authorization": authorization}
        )
        check_refusal(anonymous, 401)
        admin = {"Authorization": f"Bearer {tokens['admin']}", "If-Match": if_match + b', "7"'}
        check_refusal(
            blocking_client.post(f"/candidates/{candidate['candidate_id']}/reject", headers=headers | admin), 412
        )

    await asyncio.to_thread(check)
