"""The service behind PgBouncer in transaction mode; `make test ARGS=--pgbouncer` puts all tests through it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.documents.markdown import section
from tests.pgbouncer import PORT, PROGRAM, PgBouncer
from tests.programs.drills.programs import temporary_folder

ROOT = Path(__file__).parents[2]
FILES = (
    "tests/approvals/test_approval.py",
    "tests/candidates/test_rejection.py",
    "tests/idempotency/test_registration.py",
)
AT_LEAST = 50  # tests in these files
SECONDS = 300
CALLERS = 4


@pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer")
async def test_what_callers_do_works_through_pgbouncer():
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_")) and name != PORT
    }
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "--pgbouncer"),
        *FILES,
        cwd=ROOT,
        env=alone,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(running.communicate(), SECONDS)
    finally:
        if running.returncode is None:
            running.kill()

    assert running.returncode == 0, output.decode()[-5000:]
    assert int(re.search(r"(\d+) passed", output.decode())[1]) >= AT_LEAST


def documented(name):
    """The statements of the documents: create the second role, set its limits, show its line, drop the first."""
    create, drop = [
        one.text for one in section("OPERATIONS.md", "Changing database passwords").blocks if one.language == "sql"
    ]
    [limits] = [one.text for one in section("OPERATIONS.md", "Changing the role behind PgBouncer").blocks]
    *given, line = limits.splitlines()
    return [re.sub(r"\bprovider_registration(?=_api)", name, text) for text in (create, "\n".join(given), line, drop)]


def configuration():
    """The document's file with other paths and ports."""
    [text] = [one.text for one in section("DEPLOYMENT.md", "Behind PgBouncer").blocks if one.language == "ini"]
    places = {
        "provider_registration = host=10.0.0.5 port=5432": "* = host={host} port={server_port}",
        "listen_port = 6432": "listen_port = {port}",
        "/etc/pgbouncer/userlist.txt": "{folder}/userlist.txt",
    }
    for theirs, ours in places.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return f"{text}\nunix_socket_dir =\n"


class Callers:
    """Clients that send requests to one process until they are switched to another."""

    def __init__(self, url, registration):
        self.url = url
        self.answers = []
        self.arrived = defaultdict(set)  # clients that got a response, by address
        self._registration = registration

    @asynccontextmanager
    async def asking(self):
        tasks = [asyncio.create_task(self._ask(caller)) for caller in range(CALLERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in results if not isinstance(one, asyncio.CancelledError)] == []

    async def answered(self, times):
        """Return after `count` more responses."""
        wanted = len(self.answers) + times
        async with asyncio.timeout(60):
            while len(self.answers) < wanted:
                await asyncio.sleep(0.02)

    async def go_on_with(self, url):
        """Return when all clients use this process only."""
        self.url = url
        async with asyncio.timeout(60):
            while len(self.arrived[url]) < CALLERS:
                await asyncio.sleep(0.02)

    async def _ask(self, caller):
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            for number in count():
                url = self.url
                if number % 2:
                    answer = await client.get(f"{url}/health/ready")
                else:
                    answer = await client.post(f"{url}/candidates", json=self._registration())
                self.answers.append(answer.status_code)
                self.arrived[url].add(caller)


async def fetch(url, *statements):
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        return [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()


async def roles_of(url, name):
    connection = await asyncpg.connect(url)
    try:
        return [
            row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname ^@ $1", name)
        ]
    finally:
        await connection.close()


@pytest.fixture
def folder_of_all():
    """A folder that PgBouncer may enter, which runs as another account when we are root."""
    with temporary_folder("pgbouncer") as folder:
        yield folder


@pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer")
async def test_changing_the_role_as_documented_loses_no_request(
    serving, fork_server, environment, migrated_database_url, registration, tmp_path, folder_of_all
):
    name = f"test_{uuid4().hex}"
    first, second = f"{name}_api", f"{name}_api_2"
    create, limits, line, drop = documented(name)
    users = folder_of_all / "pgbouncer/userlist.txt"
    pgbouncer = PgBouncer(folder_of_all / "pgbouncer", migrated_database_url, configuration())

    def through(role, password):
        place = urlsplit(migrated_database_url)
        return place._replace(netloc=f"{role}:{password}@127.0.0.1:{pgbouncer.port}").geturl()

    async def make(role, create, limits, line):
        connection = await asyncpg.connect(migrated_database_url)
        await connection.execute(create)
        variables = {**os.environ, "DATABASE_URL": migrated_database_url}
        migrating = fork_server.start(["migrate", "--grant-to", role], variables, ROOT)
        await asyncio.to_thread(migrating.communicate)
        assert migrating.returncode == 0
        await connection.execute(limits)
        users.write_text(f"{users.read_text() if users.exists() else ''}{await connection.fetchval(line)}\n")
        await connection.close()
        pgbouncer.reload()
        return {
            **environment,
            "DATABASE_URL": through(role, re.search(r"PASSWORD '([^']+)'", create)[1]),
            "DATABASE_PREPARED_STATEMENTS": "false",
            "RATE_LIMIT_REGISTRATION": "",
        }

    try:
        settings = await make(first, *(text.replace(second, first) for text in (create, limits, line)))
        async with AsyncExitStack() as services:
            old = await services.enter_async_context(serving(settings, tmp_path))
            callers = Callers(old.url, registration)
            async with callers.asking():
                await callers.answered(20)
                settings = await make(second, create, limits, line)
                new = await services.enter_async_context(serving(settings, tmp_path))
                await callers.go_on_with(new.url)
                os.kill(old.pid, signal.SIGTERM)
                await callers.answered(20)
                users.write_text(
                    "".join(one for one in users.read_text().splitlines(keepends=True) if f'"{first}"' not in one)
                )
                pgbouncer.reload()
                await fetch(migrated_database_url, *drop.splitlines())
                await callers.answered(20)
            [timeout] = await fetch(settings["DATABASE_URL"], "SHOW statement_timeout")
            with pytest.raises(asyncpg.PostgresError):
                await fetch(through(first, "choose-another"), "SELECT 1")
    finally:
        pgbouncer.stop()
        for role in await roles_of(migrated_database_url, name):
            await fetch(migrated_database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    assert set(callers.answers) == {200, 201}
    assert timeout == "810ms"
