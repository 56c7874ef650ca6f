"""The real service on a loopback port, with a real database and a billing sandbox behind it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from jsonschema_rs import Draft202012Validator

from provider_registration import app as application
from provider_registration.app import create_app
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.billing import connections
from provider_registration.billing.client import BillingClient
from provider_registration.local.background_server import serve_in_background
from provider_registration.notifications import composing
from provider_registration.settings import Settings
from provider_registration.webhooks import opening
from tests.service import PASSWORD, a_registration, make_settings

# Services share what never changes: certificates take 0.1 s to read, templates as long to compile.
connections._tls = cache(connections._tls)
opening._tls = cache(opening._tls)
application.Renderer = cache(application.Renderer)
composing._environment = cache(composing._environment)


# JSON Schema's own format is ASCII, and e-mail addresses may have other characters (RFC 6531).
FORMATS = {"email": lambda address: "@" in address}


@dataclass
class Service:
    """The URLs of a running service and its dependencies."""

    url: str
    billing_url: str
    app: FastAPI


@dataclass
class Billing:
    """Remote control of the billing sandbox."""

    client: httpx.AsyncClient

    async def fail(self, mode: str, **how: object) -> None:
        """Make the next requests fail in a mode of the sandbox."""
        response = await self.client.put("/sandbox/faults", json={"mode": mode, **how})
        assert response.status_code == 200, response.text

    async def set(self, **settings: object) -> None:
        """Change the sandbox's settings."""
        response = await self.client.put("/sandbox/settings", json=settings)
        assert response.status_code == 200, response.text

    async def providers(self, name: str) -> list[dict[str, object]]:
        """Providers with this name: at most one, unless the sandbox is broken."""
        response = await self.client.get("/sandbox/providers", params={"name": name})
        return response.json()["providers"]

    async def requests(self, name: str) -> list[dict[str, object]]:
        """Requests for a provider with this name."""
        response = await self.client.get("/sandbox/requests", params={"name": name})
        return response.json()["requests"]


class Contract:
    """The service's OpenAPI document, compared with its responses."""

    _known: ClassVar[dict[object, Contract]] = {}

    @classmethod
    def of(cls, app: FastAPI) -> Contract:
        """The contract of a service; those with the same routes share one, because it takes 0.4 s to build."""
        routes = tuple(
            (route.path, route.endpoint, *route.responses)
            for route in iter_route_contexts(app.routes)
            if route.include_in_schema
        )
        if routes not in cls._known:
            cls._known[routes] = cls(app.openapi())
        return cls._known[routes]

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._operations = {
            (method.upper(), re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))): operation
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        }
        self._validator = cache(self._make_validator)

    async def check(self, response: httpx.Response) -> None:
        """Fail unless the document has this status, media type, headers and body; an event hook of httpx."""
        if response.headers.get("Content-Type", "").startswith("text/event-stream"):
            return  # it has no end
        await response.aread()
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", response.headers["X-Request-ID"])
        operation = self._operation(response.request)
        if operation is None:
            return
        documented = operation["responses"].get(str(response.status_code))
        assert documented, f"{response.status_code} is not documented: {response.text}"
        headers = documented.get("headers", {})
        required = {name for name, header in headers.items() if header.get("required", "$ref" not in header)}
        assert all(name in response.headers for name in required), response.headers
        if "content" not in documented:
            assert not response.content
            return
        media_type = response.headers["Content-Type"].partition(";")[0]
        assert media_type in documented["content"], f"{media_type} is not documented for {response.status_code}"
        if media_type.endswith("json"):
            self.validate(response.json(), documented["content"][media_type]["schema"])

    def validate(self, value: object, schema: dict[str, Any]) -> None:
        """Fail unless `value` matches a schema of the document."""
        self._validator(json.dumps(schema)).validate(value)

    def _make_validator(self, schema: str) -> Draft202012Validator:
        whole = {**json.loads(schema), "components": self.document["components"]}
        return Draft202012Validator(whole, validate_formats=True, formats=FORMATS)

    def _operation(self, request: httpx.Request) -> dict[str, Any] | None:
        for (method, path), operation in self._operations.items():
            if method == request.method and path.fullmatch(request.url.path):
                return operation
        return None


@asynccontextmanager
async def serving(settings: Settings, *, api: bool = True) -> AsyncIterator[Service]:
    """A service with these settings while the block runs; without `api`, it only works in the background."""
    app = create_app(settings, api=api)
    async with serve_in_background(app) as url:
        yield Service(url, settings.billing_service_url, app)


@pytest.fixture(scope="session")
def settings(migrated_database_url: str, shared_billing_url: str) -> Settings:
    """Settings of the service that most tests share; its billing sandbox is running."""
    return make_settings(migrated_database_url, shared_billing_url, docs_access="anyone", metrics_access="anyone")


@pytest.fixture(scope="session", name="run_service")
def run_service_fixture() -> Callable[[Settings], AbstractAsyncContextManager[Service]]:
    """Runs a service with the settings of one test."""
    return serving


@pytest.fixture(scope="module")
async def service(settings: Settings) -> AsyncIterator[Service]:
    """The service that the tests of a file share; it stops after them, because it polls the database."""
    async with serving(settings) as service:
        yield service


@pytest.fixture(scope="session")
def contract(settings: Settings) -> Contract:
    """The OpenAPI document."""
    return Contract.of(create_app(settings))


@pytest.fixture(scope="session", name="connect")
def connect_fixture(contract: Contract) -> Callable[..., httpx.AsyncClient]:
    """Makes clients of a service, anonymous without a token, whose every response must be a documented one."""
    return checked_by(contract)


def checked_by(contract: Contract) -> Callable[..., httpx.AsyncClient]:
    """Makes clients whose every response is checked."""

    def connect(url: str, token: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, event_hooks={"response": [contract.check]})

    return connect


@pytest.fixture(scope="session")
async def tokens(settings: Settings, users: UserDirectory) -> dict[Role, str]:
    """An access token for each role, for every service with these settings."""
    tokens = {}
    async with serving(settings) as service, httpx.AsyncClient(base_url=service.url) as client:
        for role in Role:
            email = f"{role}@example.com"
            await users.create(email, PASSWORD, role)
            response = await client.post("/auth/login", json={"username": email, "password": PASSWORD})
            tokens[role] = response.json()["access_token"]
    return tokens


@pytest.fixture(scope="module")
async def anonymous(service: Service, connect: Callable[..., httpx.AsyncClient]) -> AsyncIterator[httpx.AsyncClient]:
    """An anonymous client."""
    async with connect(service.url) as client:
        yield client


@pytest.fixture(scope="module")
async def admin(
    service: Service, tokens: dict[Role, str], connect: Callable[..., httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an admin."""
    async with connect(service.url, tokens[Role.ADMIN]) as client:
        yield client


@pytest.fixture(scope="module")
async def viewer(
    service: Service, tokens: dict[Role, str], connect: Callable[..., httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a viewer."""
    async with connect(service.url, tokens[Role.VIEWER]) as client:
        yield client


@pytest.fixture(scope="module")
async def auditor(
    service: Service, tokens: dict[Role, str], connect: Callable[..., httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an auditor."""
    async with connect(service.url, tokens[Role.AUDITOR]) as client:
        yield client


@pytest.fixture
async def billing(service: Service) -> AsyncIterator[Billing]:
    """Remote control of the sandbox; changes of a test are reset."""
    async with httpx.AsyncClient(base_url=service.billing_url) as client:
        billing = Billing(client)
        yield billing
        await billing.fail("none")
        await billing.set(honour_idempotency_key=True, latency_ms=0)
        service.app.services.get(BillingClient).breaker.succeeded()  # ends a pause: the next test may fail calls too


@pytest.fixture
def registration() -> Callable[..., dict[str, object]]:
    """Makes valid registrations with the given changes."""
    return a_registration


@pytest.fixture
def register(anonymous: httpx.AsyncClient) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Registers a company and returns its record, without the link that only the company gets."""

    async def register(**changes: object) -> dict[str, Any]:
        response = await anonymous.post("/candidates", json=a_registration(**changes))
        assert response.status_code == 201, response.text
        record: dict[str, Any] = response.json()
        del record["status_url"]
        return record

    return register
