"""Measure the timing and cost of logins: `python -m tests.programs.timing.run --help`.

An unknown and a known user must take the same time, and simultaneous logins must not delay probes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx

from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import MAX_QUEUED_PER_NETWORK, PasswordHasher
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.local.postgres import PrivatePostgres
from provider_registration.settings import DatabaseSettings
from tests.ports import a_port

KNOWN = "known@example.com"
PASSWORD = secrets.token_urlsafe()
LOGINS_AT_ONCE = MAX_QUEUED_PER_NETWORK  # more from one address are refused
PROBING_SECONDS = 10.0
PROBE_EVERY = 0.005  # seconds
MOST_APART = 0.05  # of the medians of known and unknown
SLOWEST_PROBE = 0.1  # seconds, at the 99th percentile


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[str]:
    """Run a service in its own process, on its own PostgreSQL, with one user; yield its URL."""
    postgres = PrivatePostgres(folder / "postgres")
    try:
        url = await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(migrations.upgrade, url)
        database = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1)
        hasher = PasswordHasher()
        await UserDirectory(database, hasher).create(KNOWN, PASSWORD, Role.VIEWER)
        hasher.close()
        await database.close()
        port = a_port()
        environment = {
            "DATABASE_URL": url,
            "JWT_SECRET_KEY": secrets.token_hex(32),
            "BILLING_SERVICE_URL": "http://127.0.0.1:1",
            "APP_PORT": str(port),
            "LOG_LEVEL": "ERROR",
            "RATE_LIMIT_LOGIN": "",
            "RATE_LIMIT_DEFAULT": "",
        }
        service = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "provider_registration", "serve"), env=os.environ | environment, cwd=folder
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            service.terminate()
            await service.wait()
    finally:
        await asyncio.to_thread(postgres.stop)


async def log_in(client: httpx.AsyncClient, username: str, password: str) -> float:
    """Log in; return the seconds that it took."""
    begun = time.perf_counter()
    response = await client.post("/auth/login", json={"username": username, "password": password})
    assert response.status_code == (200 if password == PASSWORD else 401), response.text
    return time.perf_counter() - begun


async def compare_users(client: httpx.AsyncClient, tries: int) -> bool:
    """Send wrong passwords of a known and of unknown users, in turn; return whether their medians are close."""
    known, unknown = [], []
    for number in range(tries):
        known.append(await log_in(client, KNOWN, f"wrong password {number}"))
        unknown.append(await log_in(client, f"nobody-{number}@example.com", f"wrong password {number}"))
    apart = abs(median(unknown) / median(known) - 1)
    for who, seconds in (("known", known), ("unknown", unknown)):
        tell(f"{who} user, wrong password: median {1000 * median(seconds):.1f} ms of {tries} tries")
    tell(f"the medians are {apart:.1%} apart; at most {MOST_APART:.0%} is allowed")
    return apart <= MOST_APART


async def probe_until(client: httpx.AsyncClient, end: asyncio.Event) -> list[float]:
    """Probe until `end`; return the seconds of each probe."""
    times = []
    while not end.is_set():
        begun = time.perf_counter()
        (await client.get("/health/live")).raise_for_status()
        times.append(time.perf_counter() - begun)
        await asyncio.sleep(PROBE_EVERY)
    return times


async def probe_during_logins(client: httpx.AsyncClient) -> bool:
    """Probe without and with simultaneous logins; return whether probes stay fast."""
    p99 = {}
    for what, callers in (("idle", 0), (f"{LOGINS_AT_ONCE} simultaneous logins", LOGINS_AT_ONCE)):
        end = asyncio.Event()
        probing = asyncio.create_task(probe_until(client, end))
        until = time.perf_counter() + PROBING_SECONDS
        while time.perf_counter() < until:
            await asyncio.gather(asyncio.sleep(0.05), *(log_in(client, KNOWN, PASSWORD) for _ in range(callers)))
        end.set()
        times = await probing
        p99[what] = quantiles(times, n=100)[98]
        tell(f"/health/live, {what}: 99th percentile {1000 * p99[what]:.1f} ms ({len(times)} probes)")
    return max(p99.values()) <= SLOWEST_PROBE


async def measure(folder: Path, tries: int) -> bool:
    """Run both measurements; return whether both are within their limits."""
    async with serving(folder) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        async with asyncio.timeout(30):
            while True:
                try:
                    await client.get("/health/live")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        results = [await compare_users(client, tries), await probe_during_logins(client)]
    return all(results)


def tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what the command is for


def main() -> None:
    """Read the command line, measure, and exit with status 1 if a limit is exceeded."""
    parser = ArgumentParser(description="Measure what sign-ins reveal and cost.")
    parser.add_argument("--tries", type=int, default=1000, help="sign-ins of each kind")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-timing-"))
    folder.chmod(0o755)  # for root, whose PostgreSQL runs as another user
    try:
        is_well = asyncio.run(measure(folder, options.tries))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(0 if is_well else 1)


if __name__ == "__main__":
    main()
