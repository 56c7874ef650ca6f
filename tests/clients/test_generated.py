"""Clients generated from the committed document compile, and carry out the first approval of README.md."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from provider_registration.auth.models import Role
from tests.clients.document import DOCUMENT
from tests.clients.node import MODULES, NODE, TYPESCRIPT, installed, needs_java, needs_node, run
from tests.documents.markdown import section
from tests.service import PASSWORD, a_registration

HERE = Path(__file__).parent
ADMIN = "integrator@example.com"


@pytest.fixture(scope="module")
async def url(settings, run_service, users):
    """A service with an admin who signs in with a password."""
    await users.create(ADMIN, PASSWORD, Role.ADMIN)
    async with run_service(settings) as service:
        yield service.url


@pytest.fixture
def company():
    """A company that only this test registers."""
    return {key: value for key, value in a_registration().items() if key not in ("phone", "location")}


def assert_it_is_the_story(told):
    """What every client has to have seen."""
    assert told["codes"] == ["too-short", "invalid"]
    assert told["registered"] == told["listed"]
    assert told["approved"] > 0
    assert told["read"] == "approved"
    assert told["events"] == ["candidate.approved", "candidate.approval_requested"]


def compiled(folder, program):
    """Compile a program of this folder with strict types."""
    shutil.copy(HERE / program, folder)
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": TYPESCRIPT, "files": [program]}))
    run([installed("tsc"), "--project", "."], folder)
    return folder / "built" / program.replace(".ts", ".js")


async def told_by(program, folder, url, company):
    """Run a compiled program; what it prints."""
    command = [NODE, program, url, ADMIN, PASSWORD, json.dumps(company)]
    return json.loads(await asyncio.to_thread(run, command, folder))


@needs_node
async def test_openapi_typescript_and_openapi_fetch(url, company, tmp_path):
    def build():
        run([installed("openapi-typescript"), DOCUMENT, "--output", tmp_path / "schema.d.ts"], tmp_path)
        return compiled(tmp_path, "fetching.ts")

    program = await asyncio.to_thread(build)

    assert_it_is_the_story(await told_by(program, tmp_path, url, company))


@needs_node
@needs_java
async def test_openapi_generator(url, company, tmp_path):
    def build():
        generator = Path(sys.executable).with_name("openapi-generator-cli")
        options = ["--additional-properties", "importFileExtension=.js"]
        command = [generator, "generate", "-g", "typescript-fetch", "-i", DOCUMENT, "-o", tmp_path / "generated"]
        run([*command, *options], tmp_path)
        return compiled(tmp_path, "generating.ts")

    program = await asyncio.to_thread(build)

    assert_it_is_the_story(await told_by(program, tmp_path, url, company))


async def test_a_python_client_of_opened_enumerations_accepts_values_of_later_releases(tmp_path, monkeypatch):
    [block] = [block for block in section("API.md", "Generated clients").blocks if block.language == "python"]
    names = {}
    exec(block.text, names)  # noqa: S102 - the example of the document
    opened = json.loads(DOCUMENT.read_text())
    names["open_enums"](opened)
    (tmp_path / "opened.json").write_text(json.dumps(opened))
    await asyncio.to_thread(generate_python, tmp_path, "opened_client", tmp_path / "opened.json")
    monkeypatch.syspath_prepend(str(tmp_path))
    [example] = opened["paths"]["/candidates"]["get"]["responses"]["200"]["content"]["application/json"]["example"][
        "candidates"
    ]

    models = importlib.import_module("opened_client.models")
    candidate = models.CandidateResponse.from_dict({**example, "status": "archived", "new_field": 1})

    assert candidate.status == "archived"


async def test_openapi_python_client(url, company, tmp_path, monkeypatch):
    package = await asyncio.to_thread(generate_python, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for file in sorted(package.rglob("*.py")):
        importlib.import_module(module_name(file, tmp_path))

    assert_it_is_the_story(await told_by_python(url, company))


def generate_python(folder, name="generated_client", document=DOCUMENT):
    """Generate a Python client; the folder of its package."""
    (folder / "config.yml").write_text("post_hooks: []\nhttp_timeout: 30\n")
    package = folder / name
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    run([*command, "--path", document, "--config", "config.yml", "--output-path", package], folder)
    return package


def module_name(file, root):
    """Dotted name of the module in a file below `root`."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


async def told_by_python(url, company):
    """The story with the generated package."""
    client_module, models, types = (
        importlib.import_module(f"generated_client{name}") for name in ("", ".models", ".types")
    )
    operation = {
        name: importlib.import_module(f"generated_client.api.{tag}.{name}")
        for tag, name in (
            ("auth", "login"),
            ("candidates", "register_candidate"),
            ("candidates", "list_candidates"),
            ("candidates", "get_candidate"),
            ("candidates", "list_candidate_events"),
            ("approvals", "approve_candidate"),
        )
    }
    async with client_module.Client(base_url=url) as anonymous:
        credentials = models.LoginRequest(username=ADMIN, password=PASSWORD)
        tokens = await operation["login"].asyncio(client=anonymous, body=credentials)
        wrong = models.CandidateRegistration.from_dict({**company, "company_name": "", "contact_email": "x"})
        problem = await operation["register_candidate"].asyncio(client=anonymous, body=wrong)
        body = models.CandidateRegistration.from_dict(company)
        registered = await operation["register_candidate"].asyncio_detailed(client=anonymous, body=body)
    async with client_module.AuthenticatedClient(base_url=url, token=tokens.access_token) as staff:
        listed = await operation["list_candidates"].asyncio(client=staff, status=models.Status.PENDING, page_size=1)
        candidate_id = listed.candidates[0].candidate_id
        approved = await operation["approve_candidate"].asyncio(
            candidate_id, client=staff, body=types.UNSET, if_match=registered.headers["ETag"]
        )
        read = await operation["get_candidate"].asyncio(candidate_id, client=staff)
        page = await operation["list_candidate_events"].asyncio(candidate_id, client=staff, limit=1)
        older = await operation["list_candidate_events"].asyncio(
            candidate_id, client=staff, cursor=page.pagination.next_cursor
        )
    return {
        "codes": [error.code for error in problem.errors],
        "registered": str(registered.parsed.candidate_id),
        "listed": str(candidate_id),
        "approved": approved.provider_id,
        "read": str(read.status),
        "events": [str(event.type_) for event in [*page.events, *older.events][:2]],
    }
