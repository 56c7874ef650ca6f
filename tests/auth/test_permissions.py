"""Permissions: every route of the application with every kind of client."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from tests.running_service import serving
from tests.service import MAIL

PASSWORD = "correct horse battery staple"
EVERYBODY = ("nobody", "viewer", "auditor", "admin", "expired", "disabled")

# The status that each client gets for a pending candidate, with a valid body.
ROUTES = {
    "POST /candidates": (201, 201, 201, 201, 201, 201),
    "GET /candidates": (401, 200, 200, 200, 401, 401),
    "GET /candidates.{kind}": (401, 200, 200, 200, 401, 401),
    "GET /candidates/{candidate_id}": (401, 200, 200, 200, 401, 401),
    "POST /candidates/{candidate_id}/approve": (401, 403, 403, 200, 401, 401),
    "POST /candidates/{candidate_id}/reject": (401, 403, 403, 200, 401, 401),
    "POST /candidates/{candidate_id}/status-link": (401, 403, 403, 200, 401, 401),
    "POST /applications/lost": (202, 202, 202, 202, 202, 202),
    "GET /approvals": (401, 403, 200, 200, 401, 401),
    "GET /candidates/{candidate_id}/approval/events": (401, 403, 200, 200, 401, 401),
    "GET /candidates/{candidate_id}/events": (401, 200, 200, 200, 401, 401),
    "POST /graphql": (401, 200, 200, 200, 401, 401),
    "GET /statistics": (401, 200, 200, 200, 401, 401),
    "GET /candidates/{candidate_id}/similar": (401, 200, 200, 200, 401, 401),
    "POST /candidates/{candidate_id}/approval/retry": (401, 403, 403, 404, 401, 401),
    "POST /candidates/{candidate_id}/approval/resolve": (401, 403, 403, 404, 401, 401),
    "POST /imports": (401, 403, 403, 201, 401, 401),
    "GET /imports": (401, 403, 403, 200, 401, 401),
    "GET /imports/{import_id}": (401, 403, 403, 404, 401, 401),
    "POST /imports/{import_id}/start": (401, 403, 403, 404, 401, 401),
    "GET /imports/{import_id}/errors": (401, 403, 403, 404, 401, 401),
    "GET /imports/{import_id}/failed.csv": (401, 403, 403, 404, 401, 401),
    "DELETE /imports/{import_id}": (401, 403, 403, 404, 401, 401),
    "GET /events": (401, 403, 200, 200, 401, 401),
    "GET /events/stream": (401, 403, 200, 200, 401, 401),
    "GET /deliveries": (401, 403, 403, 200, 401, 401),
    "POST /deliveries/{delivery_id}/retry": (401, 403, 403, 404, 401, 401),
    "POST /candidates/decisions": (401, 403, 403, 202, 401, 401),
    "GET /jobs": (401, 403, 200, 200, 401, 401),
    "GET /jobs/{job_id}": (401, 403, 404, 404, 401, 401),
    "POST /jobs/{job_id}/cancel": (401, 403, 403, 404, 401, 401),
    "GET /audit": (401, 403, 200, 200, 401, 401),
    "GET /audit.csv": (401, 403, 200, 200, 401, 401),
    "POST /webhooks": (401, 403, 403, 201, 401, 401),
    "GET /webhooks": (401, 403, 403, 200, 401, 401),
    "GET /webhooks/{webhook_id}": (401, 403, 403, 404, 401, 401),
    "PATCH /webhooks/{webhook_id}": (401, 403, 403, 404, 401, 401),
    "DELETE /webhooks/{webhook_id}": (401, 403, 403, 404, 401, 401),
    "POST /webhooks/{webhook_id}/rotate-secret": (401, 403, 403, 404, 401, 401),
    "POST /webhooks/{webhook_id}/test": (401, 403, 403, 404, 401, 401),
    "GET /webhooks/{webhook_id}/deliveries": (401, 403, 403, 404, 401, 401),
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/retry": (401, 403, 403, 404, 401, 401),
    "POST /webhooks/{webhook_id}/replay": (401, 403, 403, 404, 401, 401),
    "POST /api-keys": (401, 403, 403, 201, 401, 401),
    "GET /api-keys": (401, 403, 403, 200, 401, 401),
    "GET /api-keys/{api_key_id}": (401, 403, 403, 404, 401, 401),
    "DELETE /api-keys/{api_key_id}": (401, 403, 403, 404, 401, 401),
    "POST /auth/login": (200, 200, 200, 200, 200, 200),
    "POST /auth/refresh": (200, 200, 200, 200, 200, 200),
    "POST /auth/logout": (401, 204, 204, 204, 401, 401),
    "GET /health": (200, 200, 200, 200, 200, 200),
    "GET /health/live": (200, 200, 200, 200, 200, 200),
    "GET /health/ready": (200, 200, 200, 200, 200, 200),
    "GET /metrics": (200, 200, 200, 200, 200, 200),
    "GET /": (303, 303, 303, 303, 303, 303),
    "GET /apply": (200, 200, 200, 200, 200, 200),
    "POST /apply": (303, 303, 303, 303, 303, 303),
    "GET /apply/lost": (200, 200, 200, 200, 200, 200),
    "POST /apply/lost": (303, 303, 303, 303, 303, 303),
    "GET /apply/lost/sent": (200, 200, 200, 200, 200, 200),
    "GET /applications/{secret}": (200, 200, 200, 200, 200, 200),
    "GET /static/{name}": (404, 404, 404, 404, 404, 404),  # names contain a hash: tests of pages know them
    "GET /docs": (200, 200, 200, 200, 200, 200),
    "GET /docs/{asset}": (200, 200, 200, 200, 200, 200),
    "GET /redoc": (200, 200, 200, 200, 200, 200),
    "GET /redoc/{asset}": (200, 200, 200, 200, 200, 200),
    "GET /graphiql": (200, 200, 200, 200, 200, 200),
    "GET /graphiql/{asset}": (200, 200, 200, 200, 200, 200),
    "GET /openapi.json": (200, 200, 200, 200, 200, 200),
}
BODIES = {
    "POST /candidates/{candidate_id}/reject": {"reason": "No cold chain"},
    "POST /candidates/{candidate_id}/approve": {"notify": False},
    "POST /candidates/{candidate_id}/approval/resolve": {"resolution": "let_go"},
    "POST /candidates/decisions": {"decision": "reject", "selection": {"product": "mangoes"}},
    "POST /webhooks": {"url": "https://erp.example/hooks"},
    "PATCH /webhooks/{webhook_id}": {"enabled": False},
    "POST /webhooks/{webhook_id}/replay": {"since": "2026-03-14T00:00:00Z"},
    "POST /graphql": {"query": "{ candidates { pagination { total } } }"},
    "POST /api-keys": {"name": "ERP", "role": "viewer"},
    "POST /imports/{import_id}/start": {"dry_run": True},
}

# What other requests need beside or instead of a body of JSON.
MORE = {
    "POST /candidates/decisions": {"headers": {"Idempotency-Key": "0f8e6b1c-54d3-4a5e-9d0a-7c1b2e3f4a5b"}},
    "POST /imports": {"content": b"Company\r\nHuerta\r\n", "headers": {"Content-Type": "text/csv"}},
}


def expired(token, key):
    """The same token, expired and correctly signed."""
    header, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims |= {"iat": claims["iat"] - 7200, "exp": claims["exp"] - 7200}
    message = f"{header}.{encode(json.dumps(claims).encode())}"
    return f"{message}.{encode(hmac.digest(key.encode(), message.encode(), 'sha256'))}"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def with_mail(settings):
    """Settings with which every route exists; nothing is sent."""
    more = {
        "smtp_url": SecretStr(MAIL["smtp_url"]),
        "public_url": "https://supply.example",
        "workers": False,
        "graphql": True,
    }
    return settings.model_copy(update={**MAIL, **more})


@pytest.fixture(scope="module")
async def service(with_mail):
    async with serving(with_mail) as service:
        yield service


@pytest.fixture(scope="module")
def log_in(service, users):
    """Create a user with this role and log in; return the e-mail address and both tokens."""

    async def log_in(role):
        email = f"{uuid4().hex}@example.com"
        await users.create(email, PASSWORD, role)
        async with httpx.AsyncClient(base_url=service.url) as client:
            response = await client.post("/auth/login", json={"username": email, "password": PASSWORD})
        return email, response.json()

    return log_in


@pytest.fixture(scope="module")
async def token_of(log_in, users, settings):
    """An access token for each of EVERYBODY."""
    tokens = {str(role): (await log_in(role))[1]["access_token"] for role in Role}
    email, disabled = await log_in(Role.ADMIN)
    await users.disable(email)
    await asyncio.sleep(1)
    return {
        "nobody": None,
        **tokens,
        "expired": expired(tokens["admin"], settings.jwt_secret_key.get_secret_value()),
        "disabled": disabled["access_token"],
    }


@pytest.fixture
def ask(anonymous, token_of):
    """Send a request to a route as this kind of client; return the response."""

    async def ask(route, who, *, candidate_id=None, secret=None, token=None, headers=None, **body):
        method, path = route.split()
        token = token or token_of[who]
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        assets = {"/redoc": "logo-mini.svg", "/graphiql": "graphiql.min.css", "/docs": "swagger-ui.css"}
        asset = assets.get(path.removesuffix("/{asset}"))
        ids = {
            "candidate_id": candidate_id or uuid4(),
            "delivery_id": 2**40,
            "webhook_id": uuid4(),
            "api_key_id": uuid4(),
            "job_id": uuid4(),
            "import_id": uuid4(),
            "kind": "csv",
        }
        path = path.format(**ids, asset=asset, name="pages.css", secret=secret)
        if path.endswith("/stream"):  # it has no end
            async with httpx.AsyncClient(base_url=anonymous.base_url) as client:
                async with client.stream(method, path, headers=authorization) as response:
                    await response.aread() if response.is_error else None
                    return response
        return await anonymous.request(method, path, headers=authorization | (headers or {}), **body)

    return ask


@pytest.mark.asvs("V8.2.1", "API9")
def test_the_table_has_every_route(with_mail):
    routes = {
        f"{method} {route.path_format}"
        for route in iter_route_contexts(create_app(with_mail).routes)
        for method in route.methods - {"HEAD"}
    }

    assert routes == set(ROUTES)


@pytest.mark.asvs("V8.2.1", "API5")
@pytest.mark.parametrize(
    ("route", "who", "code"),
    [(route, *case) for route, codes in ROUTES.items() for case in zip(EVERYBODY, codes, strict=True)],
)
async def test_every_client_gets_the_expected_status(ask, anonymous, log_in, register, registration, route, who, code):
    candidate_id = (await register())["candidate_id"] if "{candidate_id}" in route else None
    body, token, more = BODIES.get(route), None, dict(MORE.get(route, {}))
    match route:
        case "POST /apply" | "POST /apply/lost":
            more["data"] = registration()
        case "POST /applications/lost":
            body = {"contact_email": registration()["contact_email"]}
        case "GET /applications/{secret}":
            registered = await anonymous.post("/candidates", json=registration())
            more["secret"] = registered.json()["status_url"].rpartition("/")[2]
        case "POST /candidates":
            body = registration()
        case "POST /auth/login":
            body = {"username": (await log_in(Role.VIEWER))[0], "password": PASSWORD}
        case "POST /auth/refresh":
            body = {"refresh_token": (await log_in(Role.VIEWER))[1]["refresh_token"]}
        case "POST /auth/logout" if code == 204:  # it ends the session, which other tests need
            token = (await log_in(Role(who)))[1]["access_token"]

    more |= {"json": body} if body else {}
    response = await ask(route, who, candidate_id=candidate_id, token=token, **more)

    assert response.status_code == code
    if code in (401, 403):
        assert response.json()["type"].endswith({401: ":not-authenticated", 403: ":role-not-allowed"}[code])


@pytest.mark.asvs("V8.3.1")
@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize(
    ("who", "status"), [("nobody", 401), ("expired", 401), ("disabled", 401), ("viewer", 403), ("auditor", 403)]
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_authentication_comes_before_validation(ask, route, who, status, content_type):
    if status == 403 and route == "POST /graphql":  # open to every role
        status = 422 if content_type == "application/json" else 415
    response = await ask(route, who, content=b"{{{", headers={"Content-Type": content_type})

    assert response.status_code == status


@pytest.mark.asvs("V10.3.2")
@pytest.mark.parametrize("role", Role)
async def test_a_login_gives_no_more_than_the_role(anonymous, users, role):
    email = f"{uuid4().hex}@example.com"
    await users.create(email, "correct horse battery staple", role)
    login = await anonymous.post("/auth/login", json={"username": email, "password": "correct horse battery staple"})
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}

    reading = await anonymous.get("/candidates", headers=headers)
    deciding = await anonymous.post(f"/candidates/{uuid4()}/reject", headers=headers)

    assert reading.status_code == 200
    assert deciding.status_code == (404 if role is Role.ADMIN else 403)
