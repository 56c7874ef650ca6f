"""DEPLOYMENT.md: its steps and grants are enough, its revisions and files are there."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from provider_registration import __version__, migrations
from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.auth.service import UserDirectory
from provider_registration.auth.tokens import TokenSigner
from provider_registration.database import Database
from provider_registration.local.background_server import serve_in_background
from provider_registration.local.sandbox import create_sandbox
from provider_registration.settings import Settings

from .conftest import JWT_SECRET, Live, Shell, a_port, execute
from .markdown import ROOT, code, section

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_rollback_names_every_revision() -> None:
    [table] = section("DEPLOYMENT.md", "Rollback").tables
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))

    assert [code(row["below"]) for row in table] == [revision.revision for revision in script.walk_revisions()]


@asynccontextmanager
async def _role(server_url: str, database_url: str, grants: str) -> AsyncIterator[str]:
    """A role made as the document says, under a name of its own; its URL of the database."""
    name = f"test_{uuid4().hex}"
    await execute(database_url, grants.replace("provider_registration_api", name))
    parts = urlsplit(database_url)
    try:
        yield parts._replace(netloc=f"{name}:choose-another@{parts.netloc.rpartition('@')[2]}").geturl()
    finally:
        await execute(database_url, f"DROP OWNED BY {name}")
        await execute(server_url, f"DROP ROLE {name}")


async def test_the_grants_are_enough(server_url: str, live: Live, tmp_path: Path) -> None:
    [grants] = section("DEPLOYMENT.md", "A role that cannot change the schema").blocks
    async with (
        _role(server_url, live.database_url, grants.text) as url,
        serve_in_background(create_sandbox(tmp_path / "sandbox.sqlite3")) as billing,
    ):
        settings = Settings(
            _env_file=None,
            database_url=url,
            jwt_secret_key=JWT_SECRET,
            billing_service_url=billing,
            billing_max_tries=1,
        )
        database, hasher = Database(settings.database_url, pool_size=1), PasswordHasher()
        users = UserDirectory(database, hasher)
        admin = await users.create("second-admin@example.com", "correct horse battery staple", Role.ADMIN)
        token = TokenSigner(JWT_SECRET).issue(admin, Role.ADMIN)
        async with serve_in_background(create_app(settings)) as api:
            mine = Live(api, billing, url, token)
            answers = [response.status_code async for response in _everything(mine)]
        await users.disable("second-admin@example.com")
        hasher.close()
        await database.close()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(url, "ALTER TABLE candidates ADD COLUMN note text")

    assert answers == [200, 502, 502, 200, 200, 200, 200, 200, 200]


async def _everything(service: Live) -> AsyncIterator[httpx.Response]:
    """What staff can do with candidates: one is approved, one let go in doubt, one rejected."""
    ids = [(await service.ask("POST", "/candidates", _company(number))).json()["candidate_id"] for number in range(3)]
    yield await service.ask("POST", f"/candidates/{ids[0]}/approve")
    await service.tell_sandbox("settings", {"honour_idempotency_key": False})
    await service.tell_sandbox("faults", {"mode": "commit_then_500", "times": 1})
    yield await service.ask("POST", f"/candidates/{ids[1]}/approve")
    yield await service.ask("POST", f"/candidates/{ids[1]}/approval/retry")
    yield await service.ask("GET", "/approvals")
    yield await service.ask("POST", f"/candidates/{ids[1]}/approval/resolve", {"resolution": "let_go"})
    yield await service.ask("GET", f"/candidates/{ids[1]}/approval/events")
    yield await service.ask("POST", f"/candidates/{ids[2]}/reject")
    yield await service.ask("GET", "/candidates")
    yield await service.ask("GET", "/health/ready")


def _company(number: int) -> dict[str, object]:
    return {
        "company_name": f"Obsthof {number}",
        "contact_email": f"{number}@obsthof.example",
        "products": ["apples"],
        "truck_count": 1,
        "capacity_tons_per_day": 1,
    }


async def test_the_first_deployment_goes_as_written(server_url: str, tmp_path: Path, shell: Shell) -> None:
    blocks = section("DEPLOYMENT.md", "First deployment").blocks
    sql, _, migrate, create_user, serve, look, answer = [block.text for block in blocks][:7]
    name = f"test_{uuid4().hex}"
    port = a_port()
    script = f"""
        {migrate}
        echo 'correct horse battery staple' | {create_user} --password-stdin
        {serve} 2> {tmp_path}/log &
        trap 'kill %1; wait' EXIT
        until grep --quiet 'startup complete' {tmp_path}/log; do sleep 0.05; jobs %1 > {tmp_path}/jobs; done
        {look.replace(":5004/", f":{port}/")}
    """
    try:
        await execute(server_url, *sql.replace("provider_registration", name).strip().split("\n"))
        address = urlsplit(server_url).netloc.rpartition("@")[2]
        finished = await shell(
            script,
            cwd=tmp_path,
            PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
            DATABASE_URL=f"postgresql://{name}:choose-one@{address}/{name}",
            JWT_SECRET_KEY=JWT_SECRET,
            BILLING_SERVICE_URL="http://127.0.0.1:1",
            APP_PORT=str(port),
        )
    finally:
        await execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"DROP ROLE IF EXISTS {name}")

    assert finished.status == 0, finished.errors
    assert finished.output.splitlines() == [
        f"The schema is at {migrations.head()}.",
        "admin@example.com can log in now, as admin.",
        answer,
    ]
    assert f'"version":"{__version__}"' in answer
    [shown] = section("OPERATIONS.md", "Logs").blocks
    [line] = [text for text in (tmp_path / "log").read_text().splitlines() if '"request"' in text]
    assert list(json.loads(line)) == list(json.loads(shown.text))


@pytest.mark.parametrize("path", ["/registry/health", "/health"])
async def test_a_gateway_may_pass_the_prefix_on_or_cut_it_off(path: str) -> None:
    [nginx] = section("DEPLOYMENT.md", "Behind a gateway").blocks
    assert "location /registry/ {" in nginx.text
    settings = Settings(
        _env_file=None,
        database_url="postgresql://nobody@127.0.0.1:1/nothing",
        jwt_secret_key=JWT_SECRET,
        billing_service_url="http://127.0.0.1:1",
        root_path="/registry",
    )

    async with serve_in_background(create_app(settings)) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.get(f"{path}/live")

    assert response.status_code == 200


def test_the_image_copies_what_is_there_and_let_through() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = {
        source for sources in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE) for source in sources.split()
    }

    assert all((ROOT / source).exists() for source in copied)
    assert copied == set(allowed)
    assert not [secret for secret in (".env", ".local", ".git") if any(fnmatch(secret, path) for path in allowed)]


def test_the_image_stands_on_a_supported_python_and_has_no_secret() -> None:
    tags = set(re.findall(r"(?m)^FROM python:(\d+\.\d+)-slim-bookworm\b", DOCKERFILE))
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]

    assert supported == ">=3.11,<3.15"
    assert tags <= {"3.11", "3.12", "3.13", "3.14"}
    assert len(re.findall(r"(?m)^FROM ", DOCKERFILE)) == 2
    assert len(tags) == 1
    assert not set(re.findall(r"[A-Z_]{4,}", DOCKERFILE)) & {"DATABASE_URL", "JWT_SECRET_KEY", "ADMIN_PASSWORD"}
