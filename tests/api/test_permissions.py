"""Who may do what: every route of the application against every kind of caller."""

from __future__ import annotations

import base64
import hmac
import json
from uuid import uuid4

import pytest
from fastapi.routing import iter_route_contexts

from provider_registration.app import create_app
from provider_registration.auth.models import Role

ANYONE, STAFF, ADMIN = "anyone", "staff", "admin"

ROUTES = {
    "POST /candidates": ANYONE,
    "GET /candidates": STAFF,
    "GET /candidates/{candidate_id}": STAFF,
    "POST /candidates/{candidate_id}/approve": ADMIN,
    "POST /candidates/{candidate_id}/reject": ADMIN,
    "GET /approvals": ADMIN,
    "GET /candidates/{candidate_id}/approval/events": ADMIN,
    "POST /candidates/{candidate_id}/approval/retry": ADMIN,
    "POST /candidates/{candidate_id}/approval/resolve": ADMIN,
    "POST /auth/login": ANYONE,
    "POST /auth/refresh": ANYONE,
    "POST /auth/logout": STAFF,
    "GET /health": ANYONE,
    "GET /health/live": ANYONE,
    "GET /health/ready": ANYONE,
    "GET /metrics": ANYONE,
    "GET /docs": ANYONE,
    "GET /docs/{asset}": ANYONE,
    "GET /openapi.json": ANYONE,
}
BODIES = {
    "POST /candidates/{candidate_id}/reject": {"reason": "No cold chain"},
    "POST /candidates/{candidate_id}/approval/resolve": {"resolution": "let_go"},
}


def expired(token, key):
    """The same token, signed anew after its time was over."""
    header, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims |= {"iat": claims["iat"] - 7200, "exp": claims["exp"] - 7200}
    message = f"{header}.{encode(json.dumps(claims).encode())}"
    return f"{message}.{encode(hmac.digest(key.encode(), message.encode(), 'sha256'))}"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def ask(anonymous, tokens, settings):
    """Asks for a route as somebody; returns the response."""
    known = {
        "nobody": None,
        "viewer": tokens[Role.VIEWER],
        "admin": tokens[Role.ADMIN],
        "expired": expired(tokens[Role.ADMIN], settings.jwt_secret_key.get_secret_value()),
    }

    async def ask(route, who, **body):
        method, path = route.split()
        headers = {"Authorization": f"Bearer {known[who]}"} if known[who] else {}
        path = path.format(candidate_id=uuid4(), asset="swagger-ui.css")
        return await anonymous.request(method, path, headers=headers | body.pop("headers", {}), **body)

    return ask


def test_the_table_has_every_route(settings):
    routes = {
        f"{method} {route.path_format}"
        for route in iter_route_contexts(create_app(settings).routes)
        for method in route.methods - {"HEAD"}
    }

    assert routes == set(ROUTES)


@pytest.mark.parametrize("who", ["nobody", "viewer", "admin", "expired"])
@pytest.mark.parametrize("route", ROUTES)
async def test_everybody_may_do_what_the_table_says(ask, route, who):
    body = {"json": BODIES[route]} if route in BODIES else {}

    response = await ask(route, who, **body)

    match ROUTES[route], who:
        case (_, "nobody" | "expired") if ROUTES[route] is not ANYONE:
            assert response.status_code == 401
            assert response.json()["type"].endswith(":not-authenticated")
        case (allowed, "viewer") if allowed is ADMIN:
            assert response.status_code == 403
            assert response.json()["type"].endswith(":role-not-allowed")
        case _:
            assert response.status_code not in (401, 403)


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("expired", 401), ("viewer", 403)])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_who_asks_is_settled_before_what_they_sent(ask, route, who, status, content_type):
    response = await ask(route, who, content=b"{{{", headers={"Content-Type": content_type})

    assert response.status_code == status


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
