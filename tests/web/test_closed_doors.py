"""What anonymous clients must not see, and the security headers of every response."""

from __future__ import annotations

import base64
import hashlib
import re

import httpx
import pytest

from provider_registration.auth.models import Role

SCRAPE_TOKEN = "0123456789abcdefghijklmnopqrstuvwxyz-scrape"
PATHS = {
    "docs_access": ["/docs", "/docs/swagger-ui.css", "/redoc", "/redoc/redoc.standalone.js", "/openapi.json"],
    "metrics_access": ["/metrics"],
}


@pytest.fixture
def ask(settings, run_service):
    async def ask(path, token=None, headers=None, method="GET", **changes):
        changed = settings.model_validate({**settings.model_dump(), **changes})
        async with run_service(changed) as service, httpx.AsyncClient(base_url=service.url) as client:
            authorization = {"Authorization": f"Bearer {token}"} if token else {}
            return await client.request(method, path, headers={**authorization, **(headers or {})})

    return ask


@pytest.mark.asvs("V13.4.5", "API8")
def test_production_closes_both_to_strangers(settings):
    defaults = {name: field.default for name, field in type(settings).model_fields.items()}

    assert (defaults["docs_access"], defaults["metrics_access"]) == ("staff", "token")
    assert defaults["metrics_token"] is None


@pytest.mark.asvs("V13.4.5")
@pytest.mark.parametrize(("setting", "path"), [(name, path) for name, paths in PATHS.items() for path in paths])
async def test_staff_only_is_staff_only(ask, tokens, setting, path):
    assert (await ask(path, **{setting: "staff"})).status_code == 401
    assert (await ask(path, tokens[Role.VIEWER], **{setting: "staff"})).status_code == 200


@pytest.mark.parametrize(("setting", "path"), [(name, path) for name, paths in PATHS.items() for path in paths])
async def test_off_is_not_there_for_anyone(ask, tokens, setting, path):
    assert (await ask(path, tokens[Role.ADMIN], **{setting: "off"})).status_code == 404


@pytest.mark.asvs("V6.1.3", "V6.3.4")
async def test_a_scraper_shows_its_token(ask, tokens):
    closed = {"metrics_access": "token", "metrics_token": SCRAPE_TOKEN}

    assert (await ask("/metrics", SCRAPE_TOKEN, **closed)).status_code == 200
    assert (await ask("/metrics", **closed)).status_code == 401
    assert (await ask("/metrics", "another", **closed)).status_code == 401
    assert (await ask("/metrics", tokens[Role.ADMIN], **closed)).status_code == 401


async def test_without_a_token_scrapes_are_refused(ask):
    assert (await ask("/metrics", metrics_access="token")).status_code == 401
    assert (await ask("/metrics", "''", metrics_access="token")).status_code == 401


@pytest.mark.asvs("V3.2.1", "V3.4.4", "V3.4.5", "V3.4.6", "V14.2.2", "V14.3.2")
@pytest.mark.parametrize("path", ["/health", "/candidates", "/nowhere", "/docs", "/redoc", "/metrics", "/openapi.json"])
async def test_every_response_has_the_security_headers(anonymous, path):
    headers = (await anonymous.get(path)).headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.asvs("V3.4.3", "V14.2.3")
async def test_the_page_runs_no_script_but_its_own(anonymous):
    response = await anonymous.get("/docs")

    policy = response.headers["Content-Security-Policy"]
    [script] = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert not re.search(r'(src|href)="https?://', response.text)


async def test_the_reference_runs_no_script_but_files_of_this_host(anonymous):
    response = await anonymous.get("/redoc")

    assert "script-src 'self';" in response.headers["Content-Security-Policy"]
    assert re.findall(r"<script\b[^>]*>", response.text) == ['<script src="/redoc/redoc.standalone.js">']
    assert not re.search(r'(src|href|url)="https?://', response.text)


@pytest.mark.asvs("V3.4.2")
async def test_no_other_origin_is_let_in_unless_it_is_named(ask):
    origin = {"Origin": "https://supply.example"}
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

    closed = await ask("/candidates", headers=preflight, method="OPTIONS")
    named = {"cors_allowed_origins": "https://supply.example, https://other.example"}
    opened = await ask("/candidates", headers=preflight, method="OPTIONS", **named)
    foreign = await ask("/health", headers={"Origin": "https://evil.example"}, **named)

    assert "Access-Control-Allow-Origin" not in closed.headers
    assert opened.headers["Access-Control-Allow-Origin"] == "https://supply.example"
    assert "Access-Control-Allow-Credentials" not in opened.headers
    assert "Access-Control-Allow-Origin" not in foreign.headers


NAMED = {"cors_allowed_origins": "https://supply.example"}


@pytest.mark.parametrize(
    "header", ["traceparent", "Idempotency-Key", "If-None-Match", "If-Match", "Prefer", "Last-Event-ID", "X-Request-ID"]
)
async def test_a_script_of_a_named_origin_may_send_every_header_that_the_api_reads(ask, header):
    preflight = {"Origin": "https://supply.example", "Access-Control-Request-Method": "POST"}

    response = await ask(
        "/candidates", headers=preflight | {"Access-Control-Request-Headers": header.lower()}, method="OPTIONS", **NAMED
    )

    assert response.status_code == 200
    assert header.lower() in response.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize(
    "asked",
    [
        {"Origin": "https://evil.example"},
        {"Access-Control-Request-Headers": "x-unknown"},
        {"Access-Control-Request-Method": "PUT"},
    ],
)
async def test_a_refused_preflight_is_a_problem_document(ask, asked):
    preflight = {"Origin": "https://supply.example", "Access-Control-Request-Method": "POST"}

    response = await ask("/candidates", headers=preflight | asked, method="OPTIONS", **NAMED)

    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"].endswith(":preflight-refused")
    assert ("Access-Control-Allow-Origin" in response.headers) is ("Origin" not in asked)


async def test_a_script_may_read_every_documented_header(ask, contract):
    documented = {
        name
        for methods in contract.document["paths"].values()
        for operation in methods.values()
        for response in operation["responses"].values()
        for name in response.get("headers", {})
    }

    response = await ask("/candidates", headers={"Origin": "https://supply.example"}, **NAMED)

    readable = {name.strip() for name in response.headers["Access-Control-Expose-Headers"].split(",")}
    assert documented - {"Connection"} | {"X-Request-ID"} <= readable  # that one ends at the next gateway
