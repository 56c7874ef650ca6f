"""The real service on loopback, with an admin, a billing sandbox and no rate limits, for attacks.

Some approvals are in doubt, so that some can be resolved.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from provider_registration.app import create_app
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.candidates.company import EXAMPLE
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.local.background_server import serve_in_background
from provider_registration.local.postgres import PrivatePostgres
from provider_registration.local.sandbox import create_sandbox
from provider_registration.settings import Settings

# Those of the OpenAPI document's example, so that logins generated from it succeed.
EMAIL, PASSWORD = "admin@example.com", "correct horse battery staple"
IN_DOUBT = 4  # approvals; one more failure in a row would open the breaker


@dataclass(frozen=True)
class Stage:
    """The URL of the service."""

    url: str

    async def token(self) -> str:
        """An access token of the admin's."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            response = await client.post("/auth/login", json={"username": EMAIL, "password": PASSWORD})
            return response.raise_for_status().json()["access_token"]


@asynccontextmanager
async def staged_on(database_url: str, folder: Path) -> AsyncIterator[Stage]:
    """Serve on an empty database while the block runs; the billing sandbox keeps its file in `folder`."""
    await asyncio.to_thread(migrations.upgrade, database_url)
    sandbox = create_sandbox(folder / "billing.sqlite3", honour_idempotency_key=False)  # like the real one today
    async with serve_in_background(sandbox) as billing_url:
        settings = Settings(
            _env_file=None,
            database_url=database_url,
            jwt_secret_key=secrets.token_hex(32),
            billing_service_url=billing_url,
            rate_limit_login="",
            rate_limit_registration="",
            rate_limit_default="",
            docs_access="anyone",
            public_pages=True,
        )
        await _add_admin(settings.database_url)
        async with serve_in_background(create_app(settings)) as url:
            stage = Stage(url)
            await _leave_approvals_in_doubt(stage, billing_url)
            yield stage


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """The same on its own PostgreSQL, which is removed after the block."""
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-fuzzing-"))
    await asyncio.to_thread(folder.chmod, 0o755)  # for root, whose PostgreSQL runs as another account
    postgres = PrivatePostgres(folder / "postgres", options={"fsync": "off", "full_page_writes": "off"})
    try:
        async with staged_on(await asyncio.to_thread(postgres.start), folder) as stage:
            yield stage
    finally:
        await asyncio.to_thread(postgres.stop)
        shutil.rmtree((folder / "postgres").resolve(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


async def _add_admin(database_url: str) -> None:
    database, hasher = Database(database_url, pool_size=1), PasswordHasher()
    await UserDirectory(database, hasher).create(EMAIL, PASSWORD, Role.ADMIN)
    hasher.close()
    await database.close()


async def _leave_approvals_in_doubt(stage: Stage, billing_url: str) -> None:
    """Approve while billing creates the provider, loses the response, and refuses the name on the retry."""
    names = [f"Doubtful {number}" for number in range(IN_DOUBT)]
    headers = {"Authorization": f"Bearer {await stage.token()}"}
    async with httpx.AsyncClient(base_url=stage.url, headers=headers, trust_env=False, timeout=30) as client:
        for name in names:
            fault = {"mode": "commit_then_reset", "names": [name], "times": 1}
            (await client.put(f"{billing_url}/sandbox/faults", json=fault)).raise_for_status()
            company = EXAMPLE | {"company_name": name, "contact_email": f"{uuid.uuid4()}@example.com"}
            candidate = (await client.post("/candidates", json=company)).raise_for_status().json()
            answer = await client.post(f"/candidates/{candidate['candidate_id']}/approve")
            assert answer.json()["type"].endswith(":approval-in-doubt"), answer.text
