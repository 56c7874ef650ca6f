""".env.example, DEPLOYMENT.md and docker-compose.yml name the settings of the code, with their defaults."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from provider_registration.environment import load_settings
from provider_registration.local.settings import LocalSettings
from provider_registration.settings import Settings

from .conftest import execute
from .markdown import ROOT, code, section

COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()


def _shown(field: FieldInfo) -> str:
    """A default as an environment variable; empty if there is none."""
    default = field.default
    if default is PydanticUndefined or default is None or isinstance(default, SecretStr):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _matter_of_run(name: str) -> bool:
    """Whether `run` has a default of its own for a setting that has one in production."""
    field = Settings.model_fields.get(name)
    return bool(field and not field.is_required() and field.default != LocalSettings.model_fields[name].default)


SERVE = {name.upper(): _shown(field) for name, field in Settings.model_fields.items()}
RUN_ALONE = {
    name.upper(): _shown(field) for name, field in LocalSettings.model_fields.items() if name.upper() not in SERVE
}
OTHERWISE_IN_RUN = {name for name in LocalSettings.model_fields if _matter_of_run(name)}
COMPOSE_VARIABLES = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE))


def test_env_example_has_every_setting_with_its_default() -> None:
    lines = re.findall(r"(?m)^#([A-Z_]+)=(.*)$", EXAMPLE)
    compose_alone = dict.fromkeys(COMPOSE_VARIABLES - set(SERVE), "")

    assert len(dict(lines)) == len(lines)
    assert dict(lines) == {**SERVE, **RUN_ALONE, **compose_alone}


def test_env_example_explains_every_setting() -> None:
    paragraphs = EXAMPLE.split("\n\n")

    for name in (*SERVE, *RUN_ALONE):
        [paragraph] = [text for text in paragraphs if re.search(rf"(?m)^#{name}=", text)]
        assert re.fullmatch(r"# .+\n#[A-Z_]+=.*", paragraph.strip()), name


def test_env_example_sets_nothing() -> None:
    assert all(line.startswith("#") for line in EXAMPLE.splitlines() if line)


def test_env_example_with_every_line_uncommented_is_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(re.sub(r"(?m)^#([A-Z_]+=)", r"\1", EXAMPLE))
    monkeypatch.chdir(tmp_path)
    for name in (*SERVE, *RUN_ALONE):
        monkeypatch.delenv(name, raising=False)

    settings = load_settings(LocalSettings)

    defaults = LocalSettings.model_construct()
    assert settings.model_dump(exclude=OTHERWISE_IN_RUN) == defaults.model_dump(exclude=OTHERWISE_IN_RUN)
    production = Settings.model_construct()
    assert settings.model_dump(include=OTHERWISE_IN_RUN) == production.model_dump(include=OTHERWISE_IN_RUN)


@pytest.mark.asvs("V13.1.1")
@pytest.mark.parametrize(("title", "settings"), [("Settings", SERVE), ("Settings of run", RUN_ALONE)])
def test_deployment_has_every_setting_with_its_default(title: str, settings: dict[str, str]) -> None:
    [table] = section("DEPLOYMENT.md", title).tables[:1]
    documented = {code(row["variable"]): code(row["default"]) if row["default"] else "" for row in table}

    assert documented == settings


def test_deployment_says_which_settings_may_be_in_a_file() -> None:
    [table] = section("DEPLOYMENT.md", "Settings").tables[:1]

    marked = {code(row["variable"]).lower() for row in table if row["meaning"].startswith("*file*")}
    assert marked == set(Settings.secrets())


def test_deployment_says_what_is_otherwise_in_run() -> None:
    [sentence] = re.findall(r"These differ.+?\.(?=\s)", section("DEPLOYMENT.md", "Settings of run").text, re.DOTALL)

    assert {name.lower() for name in re.findall(r"`([A-Z_]{3,})`", sentence)} - {"warning"} == OTHERWISE_IN_RUN
    for name in OTHERWISE_IN_RUN:
        assert _shown(LocalSettings.model_fields[name]) in (*re.findall(r"`([^`]+)`", sentence), "")


def test_compose_passes_every_setting_that_an_image_does_not_have() -> None:
    passed = set(re.findall(r"(?m)^ {4,6}([A-Z_]+):", COMPOSE)) & set(SERVE)

    assert passed == set(SERVE) - {"APP_HOST", "APP_PORT"}


@pytest.mark.asvs("V13.2.3")
def test_compose_has_a_default_for_nothing_that_is_needed_or_secret() -> None:
    needed = {name for name, field in Settings.model_fields.items() if field.is_required()} - {"database_url"}

    demanded = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE))
    assert demanded == {name.upper() for name in needed} | {"POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD"}
    assert set(re.findall(r"\$\{[A-Z_]+:-([^}]*)\}", COMPOSE)) == {""}


def test_compose_lets_an_empty_limit_be_none() -> None:
    limits = {name: default for name, default in SERVE.items() if Settings._can_be_empty(name.lower())}

    assert dict(re.findall(r"\$\{([A-Z_]+)-([^}]*)\}", COMPOSE)) == limits


async def test_compose_makes_the_role_that_the_api_serves_under(server_url: str) -> None:
    [statement] = re.findall(r"CREATE ROLE .+;", COMPOSE)
    [url] = re.findall(r"postgresql://(\w+):\$\{POSTGRES_API_PASSWORD:", COMPOSE)
    name = f"test_{uuid4().hex}"
    statement = re.sub(r"\$\{POSTGRES_API_PASSWORD:\?[^}]+\}", "secret", statement).replace(url, name)

    await execute(server_url, statement)
    try:
        address = urlsplit(server_url)
        mine = address._replace(netloc=f"{name}:secret@{address.netloc.rpartition('@')[2]}")
        await execute(mine.geturl(), "SELECT 1")
    finally:
        await execute(server_url, f"DROP ROLE {name}")

    assert f'"--grant-to", "{url}"' in COMPOSE
