"""SECURITY.md: its numbers are those of the code, its items those of OWASP, and each is shown by a test that exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import asyncpg
import pytest
from pydantic import SecretStr

from provider_registration import settings
from provider_registration.auth import passwords, revocations, service, tokens
from provider_registration.billing import client
from provider_registration.settings import Settings
from provider_registration.web import body
from provider_registration.web.headers import SECURITY_HEADERS

from .conftest import Live
from .markdown import ROOT, code, read, section

DOCUMENT = read("SECURITY.md")

# How many requirements of levels 1 and 2 each section of ASVS 5.0.0 has; they come first, those of level 3 after them.
ASVS = """
1.1=2 1.2=9 1.3=11 1.4=3 1.5=2
2.1=3 2.2=3 2.3=4 2.4=1
3.2=2 3.3=4 3.4=6 3.5=5 3.7=2
4.1=3 4.2=1 4.3=2 4.4=4
5.1=1 5.2=3 5.3=2 5.4=3
6.1=3 6.2=12 6.3=4 6.4=4 6.5=5 6.6=3 6.8=4
7.1=3 7.2=4 7.3=2 7.4=5 7.5=2 7.6=2
8.1=2 8.2=3 8.3=1 8.4=1
9.1=3 9.2=4
10.1=2 10.2=2 10.3=4 10.4=11 10.5=5 10.6=2 10.7=3
11.1=2 11.2=3 11.3=3 11.4=4 11.5=1 11.6=1
12.1=3 12.2=2 12.3=4
13.1=1 13.2=5 13.3=2 13.4=5
14.1=2 14.2=4 14.3=3
15.1=3 15.2=3 15.3=7
16.1=1 16.2=5 16.3=4 16.4=3 16.5=3
17.1=1 17.2=4 17.3=2
"""
REQUIREMENTS = {
    f"V{name}.{number}"
    for name, _, count in (one.partition("=") for one in ASVS.split())
    for number in range(1, int(count) + 1)
}
REASONS = re.compile(r"\b(gateway|operator|not met|does not apply)\b")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _rows() -> list[dict[str, str]]:
    return [row for table in DOCUMENT.tables for row in table if "item" in row]


@pytest.mark.parametrize(
    "claim",
    [
        f"Passwords have {passwords.MIN_LENGTH} to {passwords.MAX_PASSWORD_LENGTH} characters",
        f"none of the {len(passwords.COMMON_PASSWORDS):,} most common ones",
        Settings.model_fields["rate_limit_login"].default.replace("5/minute", "After 5 bad tries a minute"),
        f"valid for {tokens.ACCESS_TOKEN_SECONDS // 60} minutes",
        f"tokens over {tokens.MAX_TOKEN_LENGTH // 1024} KiB are refused",
        f"Refresh tokens are {service.REFRESH_TOKEN_BYTES} random bytes",
        f"The browser keeps {service.BROWSER_SECRET_BYTES} random bytes",
        f"ends by itself after {service.BROWSER_SESSION_SECONDS // 3600} hours",
        f"after {service.BROWSER_IDLE_SECONDS // 60} minutes without a page",
        f"does not answer for {revocations.STALE_SECONDS:.0f} s, nobody is let in",
        f"shorter than {settings.MIN_SECRET_BYTES} bytes",
        f"Bodies over {body.MAX_BODY_BYTES // 1024} KiB or slower than {body.BODY_SECONDS} s",
        f"answers over {client.MAX_ANSWER_BYTES // 1024} KiB are refused",
        f"A request waits {Settings.model_fields['database_timeout_seconds'].default} s for the database",
    ],
)
def test_the_claim_is_true_and_made(claim: str) -> None:
    assert claim in " ".join(section("SECURITY.md", "In place").text.split())


def test_enough_common_passwords_are_long_enough() -> None:
    long_enough = [password for password in passwords.COMMON_PASSWORDS if len(password) >= passwords.MIN_LENGTH]

    [row] = [row for row in _rows() if row["item"] == "`V6.2.4`"]
    assert f"of which {len(long_enough):,} are" in row["how the service holds to it"]


def test_every_requirement_up_to_level_2_is_there_once() -> None:
    assert len(REQUIREMENTS) == 253  # as the standard counts them
    covered = Counter(item for row in _rows() for item in _requirements(row["item"]))

    assert {item: count for item, count in covered.items() if count > 1} == {}
    assert set(covered) >= REQUIREMENTS
    higher = re.findall(r"`(V[\d.]+)` \(level 3\)", DOCUMENT.text)
    assert set(covered) - REQUIREMENTS == {*higher, *(f"API{number}" for number in range(1, 11))}


def _requirements(cell: str) -> Iterator[str]:
    """The requirements that a cell names, one by one or by their section or chapter."""
    for name in re.findall(r"`([A-Z]+[\d.]+)`", cell):
        below = [item for item in REQUIREMENTS if item.startswith(f"{name}.")]
        yield from below or [name]


def test_every_item_stands_under_its_chapter() -> None:
    for chapter in re.findall(r"(?m)^### (V\d+ .+)$", DOCUMENT.text):
        [table] = section("SECURITY.md", chapter).tables
        assert {item.split(".")[0] for row in table for item in _requirements(row["item"])} == {chapter.split()[0]}


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["item"])
def test_every_item_has_tests_that_exist_or_a_reason(row: dict[str, str]) -> None:
    named = TEST.findall(row["test"])

    assert named or REASONS.search(row["how the service holds to it"])
    assert re.sub(r"[\s,]", "", TEST.sub("", row["test"])) == ""
    assert [f"{path}::{name}" for path, name in named if name not in _tests(path)] == []


@cache
def _tests(path: str) -> frozenset[str]:
    """Names of a file's tests."""
    if not (ROOT / path).exists():
        return frozenset()
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


async def test_every_answer_carries_the_documented_headers(live: Live) -> None:
    [table] = section("SECURITY.md", "Headers").tables
    documented = {code(row["header"]): code(row["value"]) for row in table}
    came = (await live.ask("GET", "/nowhere")).headers

    assert documented == SECURITY_HEADERS
    assert {name: came[name] for name in documented} == documented


async def test_trace_is_refused(live: Live) -> None:
    response = await live.ask("TRACE", "/candidates")

    assert response.status_code == 405


async def test_swagger_does_not_store_the_token(live: Live) -> None:
    page = await live.ask("GET", "/docs")

    assert page.status_code == 200
    assert "persistAuthorization" not in page.text


async def test_every_table_of_the_database_is_classified(live: Live) -> None:
    [table] = section("SECURITY.md", "What is at stake").tables
    connection = await asyncpg.connect(live.database_url)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()

    documented = {name for row in table for name in re.findall(r"`([a-z_]+)`", row["where"])}
    assert {name for (name,) in names} - {"alembic_version"} == documented


def test_the_inventory_names_every_secret_of_the_settings() -> None:
    text = section("SECURITY.md", "Keys and algorithms").text

    secrets = [name.upper() for name, field in Settings.model_fields.items() if SecretStr in _kinds(field.annotation)]
    assert len(secrets) > 2
    assert [name for name in (*secrets, "DATABASE_URL") if f"`{name}`" not in text] == []


def _kinds(annotation: object) -> tuple[object, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))
