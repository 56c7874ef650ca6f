"""README.md, "Changing it": three recipes are followed in a copy of the project, and work as promised."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from provider_registration.local.background_server import serve_in_background
from tests.chromium import text_of
from tests.console.conftest import Person
from tests.older import GIT
from tests.ports import a_port
from tests.service import JWT_SECRET, PASSWORD, a_registration

from .conftest import ADMIN, make_admin
from .markdown import ROOT, section
from .recipes import FIELD, FILTER, PACKAGE, SECOND_BILLING_SYSTEM, TRANSLATIONS, Change

PROGRAMS = Path(sys.executable).parent
FILE = re.compile(r"(?<![\w/])[\w./-]*\w\.(?:py|html|md|toml|yml|example)\b")
ACCOUNT = 7001  # the number that the ledger returns
START_SECONDS = 60.0
# In one process, because loading the program takes 2 s of CPU time.
MIGRATE_AND_CHECK = """
import alembic.config
from provider_registration import cli
cli.main(["migrate"], standalone_mode=False)
alembic.config.main(["check"])
"""
# pytest's -k: those of the guides that need no copy of the whole project, and those of the form.
OF_RECIPES = "((test_settings or test_readme) and not runs) or every_fact or catalogue"


def _named(recipe: str) -> set[str]:
    """The files that a recipe names, by their paths in the project."""
    [text] = re.findall(rf"(?ms)^- \*\*{recipe}:\*\* (.+?)(?=^- |\Z)", section("README.md", "Changing it").text)
    return {name if (ROOT / name).exists() else f"{PACKAGE}/{name}" for name in FILE.findall(text)}


def _contents(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _follow(recipe: Sequence[Change], root: Path) -> tuple[set[str], set[str]]:
    """Apply a recipe; return the files that it changed and created."""
    before = _contents(root)
    for change in recipe:
        change.make(root)
    after = _contents(root)
    new = after.keys() - before.keys()
    return {name for name in before if after[name] != before[name]}, set(new)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as git knows it."""
    root = tmp_path_factory.mktemp("project")
    files = subprocess.run(
        [*GIT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in files.split("\0"):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    return root


def _translate(root: Path) -> None:
    """`make messages`, and the translations of its new messages."""
    subprocess.run([sys.executable, "-m", "tests.messages"], cwd=root, env=_environment(root), check=True)
    catalogue = root / PACKAGE / "translations/es.po"
    text = catalogue.read_text()
    for message, translation in TRANSLATIONS.items():
        assert f'msgid "{message}"\nmsgstr ""\n' in text
        text = text.replace(f'msgid "{message}"\nmsgstr ""\n', f'msgid "{message}"\nmsgstr "{translation}"\n')
    catalogue.write_text(text)


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root / "src")}


@pytest.fixture(scope="module")
def followed(copy: Path) -> dict[str, tuple[set[str], set[str]]]:
    """The files that each recipe changed and created in the copy, which has all afterwards."""
    recipes = {
        "A filter of the lists": FILTER,
        "A field of a company": FIELD,
        "A second billing system": SECOND_BILLING_SYSTEM,
    }
    done = {name: _follow(recipe, copy) for name, recipe in recipes.items()}
    _translate(copy)
    return done


def test_recipes_name_files_that_there_are() -> None:
    named = set(FILE.findall(section("README.md", "Changing it").text))

    assert {name for name in named if not (ROOT / name).exists() and not any((ROOT / PACKAGE).rglob(name))} == set()


def test_a_filter_changes_the_files_that_its_recipe_names(followed: dict[str, tuple[set[str], set[str]]]) -> None:
    assert followed["A filter of the lists"] == (_named("A filter of the lists"), set())


def test_a_field_changes_the_files_that_its_recipe_names(followed: dict[str, tuple[set[str], set[str]]]) -> None:
    changed, new = followed["A field of a company"]

    assert changed == _named("A field of a company")
    assert {str(Path(name).parent) for name in new} == {"alembic/versions"}


def test_a_second_billing_system_is_a_class_and_a_setting(followed: dict[str, tuple[set[str], set[str]]]) -> None:
    changed, new = followed["A second billing system"]

    assert changed == _named("A second billing system")
    assert {str(Path(name).parent) for name in new} == {f"{PACKAGE}/billing"}
    assert len(new) == 1


@pytest.mark.usefixtures("followed")
@pytest.mark.parametrize(
    "check",
    [
        ("lint-imports",),
        ("ruff", "check", "src"),
        ("ruff", "format", "--check", "src"),
        ("pytest", "-q", "-n0", "tests/documents/test_settings.py", "tests/documents/test_readme.py")
        + ("tests/applicants", "-k", OF_RECIPES),
    ],
    ids=["imports", "style", "format", "tests"],
)
def test_the_checks_pass(copy: Path, check: tuple[str, ...]) -> None:
    finished = subprocess.run(
        [PROGRAMS / check[0], *check[1:]],
        cwd=copy,
        env=_environment(copy),
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture
async def ledger() -> AsyncIterator[tuple[str, dict[UUID, str]]]:
    """A billing system of the second kind: its URL, and its accounts by their keys."""
    accounts: dict[UUID, str] = {}

    async def put(request: Request) -> JSONResponse:
        accounts[UUID(request.path_params["key"])] = (await request.json())["title"]
        return JSONResponse({"number": ACCOUNT})

    async with serve_in_background(Starlette(routes=[Route("/accounts/{key}", put, methods=["PUT"])])) as url:
        yield url, accounts


@asynccontextmanager
async def _serving(root: Path, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """An admin's client of the service of the copy."""
    port = str(a_port())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "provider_registration", "serve"),
        cwd=root,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root / "src"), "APP_PORT": port, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    assert process.returncode is None, (await process.communicate())[0].decode()
                    try:
                        tokens = await client.post("/auth/login", json={"username": ADMIN, "password": PASSWORD})
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)
            client.headers["Authorization"] = f"Bearer {tokens.raise_for_status().json()['access_token']}"
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@pytest.fixture
def migrated(copy: Path, own_database_url: str) -> str:
    """The URL of a database that the copy has migrated, and whose tables are those of its models."""
    environment = _environment(copy) | {"DATABASE_URL": own_database_url}
    subprocess.run([sys.executable, "-c", MIGRATE_AND_CHECK], cwd=copy, env=environment, check=True)
    return own_database_url


@pytest.mark.usefixtures("followed")
async def test_the_service_does_what_was_added(copy: Path, migrated: str, ledger: tuple[str, dict[UUID, str]]) -> None:
    await make_admin(migrated)
    url, accounts = ledger
    few, many = a_registration(location="Jork"), a_registration(location="Huelva", depot_count=5)
    settings = {
        "DATABASE_URL": migrated,
        "JWT_SECRET_KEY": JWT_SECRET,
        "BILLING_SERVICE_URL": url,
        "BILLING_SYSTEM": "ledger",
        "ADMIN_PAGES": "true",
        "PUBLIC_PAGES": "true",
    }
    async with _serving(copy, **settings) as admin:
        for registration in (few, many):
            registered = (await admin.post("/candidates", json=registration)).raise_for_status().json()
        assert registered["depot_count"] == 5

        found = (await admin.get("/candidates", params={"location": "Huelva"})).raise_for_status().json()
        [candidate] = found["candidates"]
        assert candidate["company_name"] == many["company_name"]
        assert found["pagination"]["total"] == 1
        assert (await admin.get("/candidates", params={"location": ""})).status_code == 422

        async with httpx.AsyncClient(base_url=admin.base_url) as browser:
            person = Person(browser)
            await person.sign_in(ADMIN)
            page = await person.open("/admin/candidates?location=Huelva&search=obsthof")
            details = await person.open(f"/admin/candidates/{candidate['candidate_id']}")
            export = await person.open("/admin/candidates/export.json")
        assert many["company_name"] in page.text
        assert few["company_name"] not in page.text
        assert "Depots 5" in text_of(details)
        assert [each["depot_count"] for each in export.json()] == [None, 5]

        form = await admin.get("/apply?language=es")
        assert 'name="depot_count"' in form.text
        assert "Número de almacenes" in text_of(form)
        assert "Number of depots 5" in text_of(await admin.get(registered["status_url"]))
        wrong = await admin.post("/apply", data={"depot_count": "0"}, headers={"Sec-Fetch-Site": "same-origin"})
        assert "Number of depots must be 1 or more" in text_of(wrong)

        approved = await admin.post(f"/candidates/{candidate['candidate_id']}/approve")
        assert approved.raise_for_status().json()["provider_id"] == ACCOUNT
    assert list(accounts.values()) == [many["company_name"]]
