"""Problem documents and request ids: what all error responses have in common."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time

import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.local.background_server import serve_in_background

PROBLEM = "application/problem+json"
REQUEST_ID = re.compile(r"[0-9a-f]{32}")


@pytest.mark.asvs("V13.4.3")
@pytest.mark.parametrize(
    "path", ["/nowhere", "/candidates/", "/Candidates", "//candidates", "/docs/../etc", "/docs/x", "/redoc/x"]
)
async def test_an_unknown_path_is_a_problem(anonymous, path):
    response = await anonymous.get(httpx.URL(anonymous.base_url, raw_path=path.encode()))

    assert response.status_code in (404, 422)
    assert response.headers["Content-Type"] == PROBLEM
    assert {"type", "title", "status", "detail", "instance"} <= set(response.json())
    assert response.json()["status"] == response.status_code


async def test_nothing_at_a_path_is_said_in_a_sentence(anonymous):
    response = await anonymous.get("/nowhere/at/all")

    assert response.json() == {
        "type": "urn:problem-type:provider-registration:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "Not found.",
        "instance": "/nowhere/at/all",
    }


@pytest.mark.asvs("V3.5.3")
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/candidates", "GET, HEAD, POST"),
        ("PUT", "/candidates/00000000-0000-4000-8000-000000000000", "GET, HEAD"),
        ("GET", "/candidates/00000000-0000-4000-8000-000000000000/approve", "POST"),
        ("GET", "/auth/login", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("OPTIONS", "/candidates", "GET, HEAD, POST"),
        ("PROPFIND", "/candidates", "GET, HEAD, POST"),
    ],
)
async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(anonymous, method, path, allowed):
    response = await anonymous.request(method, path)

    assert response.status_code == 405
    assert response.headers["Allow"] == allowed
    assert response.headers["Content-Type"] == PROBLEM
    assert response.json()["type"] == "urn:problem-type:provider-registration:method-not-allowed"
    assert response.json()["instance"] == path


@pytest.mark.asvs("V1.2.2")
@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("/a%20b", "/a%20b"),
        ("/%e2%82%ac", "/%E2%82%AC"),
        ('/"<script>', "/%22%3Cscript%3E"),
        ("/x?secret=1", "/x"),
        ("/" + "x" * 5000, "/" + "x" * 199),
        ("/" + "%e2%82%ac" * 500, "/" + "%E2%82%AC" * 199),
    ],
)
async def test_the_instance_is_the_path_as_a_uri_of_bounded_length(anonymous, path, instance):
    response = await anonymous.get(httpx.URL(anonymous.base_url, raw_path=path.encode()))

    assert response.json()["instance"] == instance


@pytest.mark.parametrize("request_id", ["a", "approval-7", "A.b_c-9", "x" * 64])
async def test_a_valid_request_id_is_kept(anonymous, request_id):
    response = await anonymous.get("/health/live", headers={"X-Request-ID": request_id})

    assert response.headers["X-Request-ID"] == request_id


@pytest.mark.asvs("V1.2.1", "V16.4.1")
@pytest.mark.parametrize("request_id", [None, "", "x" * 65, "a b", "a/b", "é".encode(), "{}", "a,b", "a\tb"])
async def test_any_other_is_replaced(anonymous, request_id):
    headers = {} if request_id is None else {"X-Request-ID": request_id}

    response = await anonymous.get("/health/live", headers=headers)

    assert REQUEST_ID.fullmatch(response.headers["X-Request-ID"])


TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}, TRACE_ID),
        ({"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "X-Request-ID": "mine"}, "mine"),
        ({"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "X-Request-ID": "not valid"}, TRACE_ID),
    ],
)
async def test_a_request_of_a_trace_goes_by_the_traces_id(anonymous, headers, expected):
    response = await anonymous.get("/health/live", headers=headers)

    assert response.headers["X-Request-ID"] == expected


@pytest.mark.parametrize(
    "traceparent",
    [
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}",
        f"00-{TRACE_ID}-{PARENT_ID}-01-x",
    ],
)
async def test_a_trace_that_is_none_is_ignored(anonymous, traceparent):
    response = await anonymous.get("/health/live", headers={"traceparent": traceparent})

    assert REQUEST_ID.fullmatch(response.headers["X-Request-ID"])
    assert response.headers["X-Request-ID"] != TRACE_ID


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health"), ("GET", "/nowhere"), ("PUT", "/candidates"), ("GET", "/candidates"), ("GET", "/docs")],
)
async def test_every_response_has_exactly_one_request_id(anonymous, method, path):
    response = await anonymous.request(method, path, headers={"X-Request-ID": "mine"})

    assert response.headers.get_list("X-Request-ID") == ["mine"]


class Unforeseen(Exception):
    """An error that no handler knows."""


@pytest.fixture(scope="module")
async def failing(settings):
    """A client of a service with routes that raise unhandled exceptions."""
    app = create_app(settings)

    @app.get("/fails")
    async def fails():
        raise Unforeseen("SELECT * FROM secrets")

    @app.get("/fails-in-a-thread")
    def fails_in_a_thread():
        raise Unforeseen("SELECT * FROM secrets")

    @app.get("/fails-in-a-group")
    async def fails_in_a_group():
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    async with serve_in_background(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.mark.asvs("V13.4.2", "V16.5.1")
@pytest.mark.parametrize("path", ["/fails", "/fails-in-a-thread", "/fails-in-a-group"])
async def test_an_unhandled_exception_is_a_problem_without_details(failing, path, caplog):
    response = await failing.get(path, headers={"X-Request-ID": "find-me"})

    assert response.status_code == 500
    assert response.headers["Content-Type"] == PROBLEM
    assert response.headers["X-Request-ID"] == "find-me"
    assert response.json() == {
        "type": "urn:problem-type:provider-registration:internal-error",
        "title": "Internal error",
        "status": 500,
        "detail": "Internal error. Quote X-Request-ID when you report it.",
        "instance": path,
    }
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


@pytest.mark.asvs("V16.3.4")
async def test_an_unhandled_exception_is_counted(failing):
    await failing.get("/fails")

    metrics = (await failing.get("/metrics")).text

    assert 'provider_service_requests_total{endpoint="/fails",method="GET",status_code="500"}' in metrics


@pytest.mark.asvs("V16.5.4")
async def test_the_service_continues_after_an_unhandled_exception(failing):
    await failing.get("/fails")

    assert (await failing.get("/health")).status_code == 200


@pytest.mark.parametrize("field", ["company_name", "location", "phone"])
async def test_long_text_is_refused_before_it_is_normalised(anonymous, registration, field):
    """Normalising 64 KiB of combining marks takes seconds of CPU."""
    body = {**registration(), field: "a" + "\u0301" * 16_000 + "\u0316" * 16_000}
    began = time.process_time()

    response = await anonymous.post(
        "/candidates",
        content=json.dumps(body, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json"},
    )

    assert response.status_code == 422
    assert time.process_time() - began < 0.5


async def test_a_refusal_lists_a_bounded_number_of_faults(anonymous, registration):
    few = await anonymous.post("/candidates", json={**registration(), **{f"unknown_{n}": 1 for n in range(50)}})
    many = await anonymous.post("/candidates", json={**registration(), **{f"unknown_{n}": 1 for n in range(3000)}})

    assert (few.status_code, many.status_code) == (422, 422)
    assert len(few.json()["errors"]) == 20
    assert len(many.json()["errors"]) == 1


async def test_a_query_has_a_bounded_number_of_parameters(anonymous, viewer):
    query = "&".join(f"a{n}=1" for n in range(2000))

    refused = await viewer.get(f"/candidates?{query}")

    assert refused.status_code == 422
    assert len(refused.json()["errors"]) == 1
    assert (await anonymous.get(f"/candidates?{query}")).status_code == 401
