"""A service for the examples of the documents, and a shell to run them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

import tests.service
from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background
from provider_registration.local.sandbox import create_sandbox
from provider_registration.settings import Settings
from tests.conftest import create_database, drop_database
from tests.forked import ForkServer, forking_command
from tests.service import MAIL, PASSWORD, user_directory

ADMIN = "admin@example.com"
METRICS_TOKEN = uuid4().hex + uuid4().hex
RECEIVERS = {"webhooks_allow_http": True, "webhooks_allowed_networks": "127.0.0.1"}


@dataclass(frozen=True)
class Finished:
    """A finished script."""

    status: int
    output: str
    errors: str


Shell = Callable[..., Awaitable[Finished]]


@dataclass(frozen=True)
class Live:
    """A running service, and the session of an admin."""

    api: str
    billing: str
    database_url: str
    token: str = ""
    refresh_token: str = ""

    async def logged_in(self) -> Live:
        """The same with a new session of the admin."""
        async with httpx.AsyncClient(base_url=self.api) as client:
            response = await client.post("/auth/login", json={"username": ADMIN, "password": PASSWORD})
        tokens = response.raise_for_status().json()
        return replace(self, token=tokens["access_token"], refresh_token=tokens["refresh_token"])

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the examples."""
        return {
            "API": self.api,
            "TOKEN": self.token,
            "REFRESH_TOKEN": self.refresh_token,
            "METRICS_TOKEN": METRICS_TOKEN,
            "BILLING_SERVICE_URL": self.billing,
        }

    async def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a request as the admin."""
        headers = {"Authorization": f"Bearer {self.token}"} | (headers or {})
        async with httpx.AsyncClient(base_url=self.api, headers=headers, timeout=30) as client:
            return await client.request(method, path, json=body)

    async def tell_sandbox(self, path: str, body: object) -> None:
        """Change how the billing sandbox behaves."""
        async with httpx.AsyncClient(base_url=self.billing) as client:
            (await client.put(f"/sandbox/{path}", json=body)).raise_for_status()


async def _shell(script: str, *, cwd: Path | None = None, **environment: str) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *("bash", "--noprofile", "--norc", "-euo", "pipefail"),
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(script.encode())
    return Finished(process.returncode or 0, output.decode(), errors.decode())


@pytest.fixture(scope="session")
def commands(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PATH with `provider-registration`."""
    with forking_command(fork_server, tmp_path_factory.mktemp("bin")) as folder:
        yield f"{folder}:/usr/bin:/bin"


@pytest.fixture(scope="session")
def shell() -> Shell:
    """Run a script with bash as `await shell("curl …", API=…)`; it stops at the first failure."""
    return _shell


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def make_admin(database_url: str) -> None:
    """Add the admin of the examples."""
    async with user_directory(database_url) as users:
        await users.create(ADMIN, PASSWORD, Role.ADMIN)


class ExampleSettings(Settings):
    """As in `run`, e-mails have links though PUBLIC_URL is not set."""

    @property
    def links_begin_with(self) -> str:
        """How they begin."""
        return "http://127.0.0.1:5004"


def make_settings(database_url: str, billing_url: str, **more: object) -> Settings:
    """Settings of the service for the examples; it calls billing once for each approval."""
    values = {"billing_max_tries": 1, "metrics_token": METRICS_TOKEN, "graphql": True, **MAIL, **RECEIVERS, **more}
    return tests.service.make_settings(database_url, billing_url, kind=ExampleSettings, **values)


@pytest.fixture(scope="session")
async def database_url(server_url: str, template: str) -> AsyncIterator[str]:
    """A database for the examples, with one admin."""
    name = f"test_{uuid4().hex}"
    url = await create_database(server_url, name, template)
    await make_admin(url)
    yield url
    await drop_database(server_url, name)


class Billing:
    """A billing sandbox that is replaced by a new one for every test, at the same URL."""

    sandbox: Starlette

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"  # uvicorn treats this as an application without a lifespan
        await self.sandbox(scope, receive, send)

    @asynccontextmanager
    async def fresh(self, folder: Path) -> AsyncIterator[None]:
        """Start without providers and faults."""
        self.sandbox = create_sandbox(folder / "providers.sqlite3")
        async with self.sandbox.router.lifespan_context(self.sandbox):
            yield


@pytest.fixture(scope="session")
def billing() -> Billing:
    return Billing()


@pytest.fixture(scope="module")
async def service(database_url: str, billing: Billing) -> AsyncIterator[Live]:
    """A service with production defaults, except rate limits."""
    async with serve_in_background(billing) as billing_url:
        # The sweep runs every 45 s, so an approval keeps its state.
        settings = make_settings(database_url, billing_url, billing_deadline_seconds=300)
        async with serve_in_background(create_app(settings)) as api:
            yield Live(api, billing_url, database_url)


@pytest.fixture
async def live(service: Live, billing: Billing, tmp_path: Path) -> AsyncIterator[Live]:
    """The service without candidates, a new billing sandbox, and a session of its admin."""
    tables = ("webhooks", "candidate_events", "approval_events", "approval_intents", "candidates")
    emptying = [f"DELETE FROM {table}" for table in tables]
    await execute(service.database_url, *emptying)
    async with billing.fresh(tmp_path):
        yield await service.logged_in()
