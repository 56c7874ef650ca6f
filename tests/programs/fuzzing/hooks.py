"""Schemathesis' configuration for this service; its own process loads this file."""

from __future__ import annotations

import os
import random
from http import HTTPStatus
from uuid import uuid4

import httpx
import schemathesis
from hypothesis import strategies as st
from jose import jwt

from provider_registration.candidates.company import EXAMPLE

IS_ADMIN = os.environ["FUZZ_ROLE"] == "admin"
LOGIN = {"username": os.environ["FUZZ_USERNAME"], "password": os.environ["FUZZ_PASSWORD"]}
TOKEN_SECONDS = 600  # seconds for which a token is used; it is valid for three times as long
LOGOUT = "/auth/logout"

# New e-mail addresses: most of those that schemathesis generates are the same.
schemathesis.openapi.format("email", st.uuids(version=4).map("{}@example.com".format))


@schemathesis.hook.apply_to(name="POST /candidates")
def before_call(_context, case, _kwargs):
    """Give each registration generated from the document's example a unique name and e-mail address."""
    for field, value in (("company_name", f"Orchard {uuid4()}"), ("contact_email", f"{uuid4()}@example.com")):
        if isinstance(case.body, dict) and case.body.get(field) == EXAMPLE[field]:
            case.body = {**case.body, field: value}


class Admin:
    """Sends an admin's token."""

    def get(self, _case, _context):
        response = httpx.post(os.environ["FUZZ_URL"] + "/auth/login", json=LOGIN, trust_env=False)
        return response.raise_for_status().json()["access_token"]

    def set(self, case, token, _context):
        case.headers["Authorization"] = f"Bearer {token}"


class Nobody:
    """Sends no token, or an invalid one."""

    def get(self, _case, _context):
        claims = {"sub": "00000000-0000-0000-0000-000000000000", "role": "admin", "exp": 2**33}
        return random.choice([None, "x", jwt.encode(claims, "x" * 32, "HS256")])  # noqa: S311 - it opens nothing

    def set(self, case, token, _context):
        if token:
            case.headers["Authorization"] = f"Bearer {token}"


if IS_ADMIN:
    schemathesis.auth(refresh_interval=TOKEN_SECONDS).skip_for(path=LOGOUT)(Admin)
    schemathesis.auth(refresh_interval=None).apply_to(path=LOGOUT)(Admin)  # a separate one for each: it ends there
else:
    schemathesis.auth(refresh_interval=None)(Nobody)


@schemathesis.check
def doors_stay_closed(_context, response, case):
    """Operations of staff return 401 to anonymous clients, whatever else is wrong, and never to an admin."""
    security = case.operation.definition.raw["security"]
    is_closed = bool(security) and security != [{"ScrapeToken": []}]  # which no user has
    if not is_closed or case.method.upper() != case.operation.method.upper():
        return
    if response.status_code == HTTPStatus.NOT_FOUND and case.path_parameters:
        return  # the generated path may be another path
    is_refused = response.status_code == HTTPStatus.UNAUTHORIZED
    assert is_refused is not IS_ADMIN, f"{response.status_code} for {os.environ['FUZZ_ROLE']}"
