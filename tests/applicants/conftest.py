"""The real service with the pages for companies, and applicants: over plain HTTP, and in Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background
from provider_registration.settings import Settings
from tests.service import PASSWORD, make_settings

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="session")
def settings(migrated_database_url: str, shared_billing_url: str) -> Settings:
    """Settings of the service that most tests share."""
    return make_settings(migrated_database_url, shared_billing_url)


@pytest.fixture(scope="module")
async def service_url(settings: Settings) -> AsyncIterator[str]:
    """The URL of the service that the tests share."""
    async with serve_in_background(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="session")
def run_service() -> Callable[[Settings], AbstractAsyncContextManager[str]]:
    """Runs a service with the test's own settings; yields its URL."""
    return lambda settings: serve_in_background(create_app(settings))


@pytest.fixture(scope="module")
async def client(service_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's requests from pages of the service; redirects are not followed."""
    async with httpx.AsyncClient(base_url=service_url, headers=BROWSER, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
async def admin(service_url: str, users: UserDirectory) -> AsyncIterator[httpx.AsyncClient]:
    """An admin of the API."""
    email = f"{uuid4().hex}@supply.example"
    await users.create(email, PASSWORD, Role.ADMIN)
    async with httpx.AsyncClient(base_url=service_url, timeout=30) as client:
        login = await client.post("/auth/login", json={"username": email, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        yield client


def what_a_company_types(**changes: Any) -> dict[str, Any]:
    """The fields of a valid form that no other test sends."""
    unique = uuid4().hex
    return {
        "key": uuid4().hex + unique[:11],
        "company_name": f"Obsthof {unique}",
        "location": "Köln, Deutschland",
        "contact_email": f"{unique}@obsthof.example",
        "phone": "+49 221 5550 100",
        "products": ["apples", "grapes"],
        "truck_count": "7",
        "capacity_tons_per_day": "40",
        "website": "",
        **changes,
    }


@pytest.fixture
def typed() -> Callable[..., dict[str, Any]]:
    """Creates the fields of a form, with the given changes."""
    return what_a_company_types


@pytest.fixture
def candidate_of(database: asyncpg.Connection) -> Callable[[str], Awaitable[dict[str, Any] | None]]:
    """The stored row of the company with an e-mail address."""

    async def candidate_of(contact_email: str) -> dict[str, Any] | None:
        row = await database.fetchrow("SELECT * FROM candidates WHERE contact_email = $1", contact_email)
        return dict(row) if row else None

    return candidate_of
