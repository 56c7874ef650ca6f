"""The service as in production: `serve` in its own processes, with PostgreSQL and a billing sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings, Settings
from tests.forked import Forked, ForkServer
from tests.pgbouncer import database_settings
from tests.ports import a_port

START_SECONDS = 120  # a busy machine takes its time
STOP_SECONDS = 30
PASSWORD = f"password-of-staff-{uuid4().hex}"


@dataclass
class Process:
    """A running `serve`: its URL, its log file, and its process."""

    url: str
    log: Path
    pid: int = 0

    def lines(self) -> list[dict[str, object]]:
        """Its log lines, each of which must be a JSON object."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines


@asynccontextmanager
async def serving(
    environment: dict[str, str],
    folder: Path,
    *options: str,
    inside: tuple[str, ...] = (),
    fork_server: ForkServer | None = None,
) -> AsyncIterator[Process]:
    """Run `serve` with only these variables and options while the block runs.

    `inside` is a command that executes the command after it. Without it and options, a fork server saves CPU time.
    """
    port = a_port()
    others = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    variables = {**others, **environment, "APP_PORT": str(port)}
    log = folder / f"{port}.log"
    running: Forked | subprocess.Popen[bytes]
    if fork_server and not inside and not options:
        running = fork_server.start(["serve"], variables, folder, log=log)
    else:
        command = (*inside, sys.executable, "-m", "provider_registration", "serve", *options)
        with log.open("wb") as output:
            # The folder has no .env.
            running = subprocess.Popen(command, env=variables, cwd=folder, stdout=output, stderr=output)  # noqa: ASYNC220
    process = Process(f"http://127.0.0.1:{port}", log, running.pid)
    try:
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient() as client:
            while True:
                assert running.poll() is None, process.log.read_text()
                try:
                    await client.get(f"{process.url}/health/live")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield process
    finally:
        if running.poll() is None:
            running.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            while running.poll() is None:
                await asyncio.sleep(0.02)


@pytest.fixture(name="serving", scope="session")
def serving_fixture(fork_server):
    """Run `serve` while a block runs."""
    return partial(serving, fork_server=fork_server)


@pytest.fixture(scope="session")
def environment(migrated_database_url: str, shared_billing_url: str) -> dict[str, str]:
    """Only the settings that production requires; the billing service is a sandbox."""
    return {
        **{name.upper(): value for name, value in database_settings(migrated_database_url).items()},
        "JWT_SECRET_KEY": uuid4().hex,
        "BILLING_SERVICE_URL": shared_billing_url,
    }


@pytest.fixture
async def admin_email(migrated_database_url: str) -> str:
    """E-mail address of an admin whose password is PASSWORD."""
    url = DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url
    database, hasher = Database(url, pool_size=1), PasswordHasher()
    email = f"staff-{uuid4().hex}@example.com"
    await UserDirectory(database, hasher).create(email, PASSWORD, Role.ADMIN)
    hasher.close()
    await database.close()
    return email


@pytest.fixture
def registration():
    """Creates valid registrations that no other test uses, with these changes."""

    def registration(**changes: object) -> dict[str, object]:
        unique = uuid4().hex
        return {
            "company_name": f"company-{unique}",
            "contact_email": f"{unique}@obsthof.example",
            "products": ["apples"],
            "truck_count": 1,
            "capacity_tons_per_day": 1,
            **changes,
        }

    return registration
