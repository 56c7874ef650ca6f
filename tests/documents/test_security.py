"""SECURITY.md: its numbers are those of the code, and its tables are complete."""

from __future__ import annotations

import re

import asyncpg
import pytest
from pydantic import SecretStr

from provider_registration import settings
from provider_registration.auth import passwords, revocations, service, tokens
from provider_registration.billing import http_system
from provider_registration.settings import Settings
from provider_registration.web import body
from provider_registration.web.headers import SECURITY_HEADERS

from .conftest import Live
from .markdown import code, section


@pytest.mark.parametrize(
    "figure",
    [
        f"{passwords.MIN_LENGTH} to {passwords.MAX_PASSWORD_LENGTH} characters",
        f"{len(passwords.COMMON_PASSWORDS):,} most common",
        Settings.model_fields["rate_limit_login"].default.replace("5/minute", "5 failed sign-ins a minute"),
        f"{tokens.ACCESS_TOKEN_SECONDS // 60} minutes",
        f"{tokens.MAX_TOKEN_LENGTH // 1024} KiB",
        f"{service.REFRESH_TOKEN_BYTES} random bytes",
        f"{service.BROWSER_SECRET_BYTES} random bytes",
        f"{service.BROWSER_SESSION_SECONDS // 3600} hours",
        f"{service.BROWSER_IDLE_SECONDS // 60} minutes",
        f"{revocations.STALE_SECONDS:.0f} s",
        f"{settings.MIN_SECRET_BYTES} bytes",
        f"{body.MAX_BODY_BYTES // 1024} KiB",
        f"{body.BODY_SECONDS} s",
        f"{http_system.MAX_RESPONSE_BYTES // 1024} KiB",
        f"{Settings.model_fields['database_timeout_seconds'].default} s",
    ],
)
def test_figures_are_those_of_the_code(figure: str) -> None:
    assert re.search(
        rf"(?<![\d.,]){re.escape(figure)}(?!\w)", " ".join(section("SECURITY.md", "Protections").text.split())
    )


def test_enough_common_passwords_are_long_enough() -> None:
    assert sum(len(password) >= passwords.MIN_LENGTH for password in passwords.COMMON_PASSWORDS) >= 3000


@pytest.mark.asvs("V3.4.1")
async def test_every_response_has_the_documented_headers(live: Live) -> None:
    [table] = section("SECURITY.md", "Headers").tables
    documented = {code(row["header"]): code(row["value"]) for row in table}
    came = (await live.ask("GET", "/nowhere")).headers

    assert documented == SECURITY_HEADERS
    assert {name: came[name] for name in documented} == documented


@pytest.mark.asvs("V13.4.4")
async def test_trace_is_refused(live: Live) -> None:
    response = await live.ask("TRACE", "/candidates")

    assert response.status_code == 405


@pytest.mark.asvs("V14.3.1", "V14.3.3")
async def test_swagger_does_not_store_the_token(live: Live) -> None:
    page = await live.ask("GET", "/docs")

    assert page.status_code == 200
    assert "persistAuthorization" not in page.text


@pytest.mark.asvs("V14.1.1")
async def test_every_table_of_the_database_is_classified(live: Live) -> None:
    [table] = section("SECURITY.md", "Assets").tables
    connection = await asyncpg.connect(live.database_url)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()

    documented = {name for row in table for name in re.findall(r"`([a-z_]+)`", row["location"])}
    assert {name for (name,) in names} - {"alembic_version"} == documented


@pytest.mark.asvs("V11.1.2")
def test_the_inventory_names_every_secret_of_the_settings() -> None:
    text = section("SECURITY.md", "Keys and algorithms").text

    secrets = [name.upper() for name, field in Settings.model_fields.items() if SecretStr in _kinds(field.annotation)]
    assert len(secrets) > 2
    assert [name for name in (*secrets, "DATABASE_URL") if f"`{name}`" not in text] == []


def _kinds(annotation: object) -> tuple[object, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))
