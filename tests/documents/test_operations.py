"""OPERATIONS.md: every metric, code and message in it exists, and its statements and requests run."""

from __future__ import annotations

import re
from itertools import pairwise
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client.metrics import MetricWrapperBase

from provider_registration.auth import passwords, tokens
from provider_registration.auth.errors import NotAuthenticated
from provider_registration.auth.models import Role, User
from provider_registration.auth.tokens import TokenSigner
from provider_registration.observability import metrics
from provider_registration.settings import Settings

from .conftest import Live, Shell
from .markdown import ROOT, Block, code, read, section, sections

DOCUMENT = read("OPERATIONS.md")
SOURCES = "\n".join(path.read_text() for folder in ("src", "alembic") for path in sorted((ROOT / folder).rglob("*.py")))


def _metrics() -> dict[str, list[str]]:
    """Names as Prometheus shows them, with their labels."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = [family.name] if family.type == "stateset" else list(metric._labelnames)
            found[name] = labels
    return found


def test_every_metric_is_explained_with_its_labels() -> None:
    [table] = section("OPERATIONS.md", "Metrics").tables

    assert {code(row["metric"]): re.findall(r"`(\w+)`", row["labels"]) for row in table} == _metrics()


def test_every_metric_that_is_named_exists() -> None:
    assert set(re.findall(r"provider_service_\w+", DOCUMENT.text)) <= set(_metrics())


def test_every_outcome_and_state_of_a_metric_exists() -> None:
    [table] = section("OPERATIONS.md", "Metrics").tables
    for row in table:
        for value in re.findall(r"`([a-z_]+)`", row["meaning"]):
            assert re.search(rf'["\']{value}["\']', SOURCES) or value in ("endpoint", "unmatched"), value


def test_every_code_exists() -> None:
    [_, known] = section("API.md", "Errors").tables
    codes = {code(row["code"]) for row in known}

    [table] = section("OPERATIONS.md", "How an approval works").tables
    assert {name for row in table for name in re.findall(r"`([a-z-]+)`", row["code"])} <= codes


@pytest.mark.asvs("V11.1.1")
def test_every_step_of_a_key_rotation_accepts_the_tokens_of_its_neighbours() -> None:
    one = section("OPERATIONS.md", "Changing the key")
    [table] = one.tables
    user = User(uuid4(), uuid4(), role=Role.VIEWER)
    signers = [TokenSigner(row["`JWT_SECRET_KEY`"], row["`JWT_PREVIOUS_SECRET_KEY`"] or None) for row in table]

    for before, after in pairwise(signers):
        assert before.verify(after.issue(user)) == after.verify(before.issue(user)) == user
    with pytest.raises(NotAuthenticated):
        signers[-1].verify(signers[0].issue(user))
    assert f"after {tokens.ACCESS_TOKEN_SECONDS // 60} minutes" in one.text


@pytest.mark.parametrize(
    "figure",
    [
        f"{passwords.MIN_LENGTH} to {passwords.MAX_PASSWORD_LENGTH} characters",
        f"{len(passwords.COMMON_PASSWORDS):,} most common",
        Settings.model_fields["rate_limit_login"].default.replace("5/minute", "five failed sign-ins a minute"),
    ],
)
def test_figures_are_those_of_the_code(figure: str) -> None:
    assert figure in " ".join(DOCUMENT.text.split())


# Messages of PostgreSQL, asyncpg, uvicorn and alembic.
OTHERS = {
    *("address already in use", "cannot assign requested address", "Can't locate revision"),
    "SQLSTATE 42",
}


def test_every_message_is_one_that_the_service_gives() -> None:
    shown = {
        message.strip(" …")
        for one in sections(DOCUMENT, 3)
        for table in one.tables
        for row in table
        if {"message", "it says"} & set(row)
        for message in re.findall(r"`([^`]+)`", next(iter(row.values())))
    }

    assert {message for message in shown if not _is_given(message)} == set()


def _is_given(message: str) -> bool:
    pieces = [piece.strip(' "') for piece in message.split("…")]
    joined = re.sub(r'"\s*f?"', "", SOURCES)
    return all(piece in joined or any(other in piece for other in OTHERS) for piece in pieces)


def _blocks(language: str) -> list[Block]:
    return [block for block in DOCUMENT.blocks if block.language == language]


@pytest.mark.asvs("V7.4.5")
@pytest.mark.parametrize("statement", [block.text for block in _blocks("sql")])
async def test_the_statement_runs(statement: str, live: Live) -> None:
    connection = await asyncpg.connect(live.database_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        if re.search(r"(DROP ROLE|GRANT \w+ TO) provider_registration_api", statement):
            await connection.execute("CREATE ROLE provider_registration_api")
        if "ALTER ROLE provider_registration_api_2" in statement:
            await connection.execute("CREATE ROLE provider_registration_api_2")
        await connection.execute(statement)
    finally:
        await transaction.rollback()
        await connection.close()


IS_FOR_OPERATORS = re.compile(r"psql|pgbackrest|provider-registration")


@pytest.mark.parametrize("script", [block.text for block in _blocks("bash") if not IS_FOR_OPERATORS.search(block.text)])
async def test_the_request_succeeds(script: str, live: Live, shell: Shell) -> None:
    finished = await shell(script, **live.variables)

    assert finished.status == 0, finished.errors


def test_what_an_alert_leads_to_says_what_is_seen_and_what_cures_it() -> None:
    rules = (ROOT / "deploy/prometheus/rules/alerts.yml").read_text(encoding="utf-8")
    anchors = set(re.findall(r"runbook_url: \S+#(\S+)", rules))
    hurry = DOCUMENT.text.partition("## Health and probes")[0]
    trouble = {
        each.title.lower().replace(" ", "-"): each for each in sections(section("OPERATIONS.md", "Troubleshooting"), 3)
    }

    led_to = {anchor: trouble[anchor].text for anchor in anchors & set(trouble)}
    assert {"no-backup-succeeds", "a-disk-fills", "a-company-waits-for-a-decision"} <= set(led_to)
    assert not [
        anchor for anchor, text in led_to.items() if not re.search(r"\*\*Resolution:\*\*|\| resolution \|", text)
    ]
    assert not [
        anchor for anchor, text in led_to.items() if "**Symptoms:**" not in text and "| resolution |" not in text
    ]
    assert not [anchor for anchor in led_to if f"(#{anchor})" not in hurry]
