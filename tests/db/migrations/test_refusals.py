"""Migrations that find rows they cannot convert say so in one sentence, and change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from provider_registration.db import migrations
from provider_registration.db.migrations import MigrationError

Schema = Callable[[str], Awaitable[str]]

INSERT = """
    INSERT INTO candidates (contact_email, company_name, status, provider_id, rejection_reason, products, truck_count,
        capacity_tons_per_day)
    VALUES ($1, $2, $3, $4, $5, '{apples}', 1, 1)
"""

INDEX_BUILD_WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
    )
"""


async def _upgraded_to(url: str, revision: str) -> AsyncIterator[asyncpg.Connection]:
    await asyncio.to_thread(migrations.upgrade, url, revision)
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
async def before_004(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    async for connection in _upgraded_to(empty_database_url, "003_timestamps_with_time_zone"):
        yield connection


@pytest.fixture
async def before_007(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    async for connection in _upgraded_to(empty_database_url, "006_approval_intents"):
        yield connection


async def refusal(url: str) -> str:
    """The error message of `upgrade` with the existing rows."""
    with pytest.raises(MigrationError) as raised:
        await asyncio.to_thread(migrations.upgrade, url)
    return str(raised.value)


async def test_addresses_that_differ_in_case_stop_the_unique_index(
    empty_database_url: str, before_004: asyncpg.Connection, database_schema: Schema
) -> None:
    for email in ("a@example.org", "A@example.org", "A@EXAMPLE.org", "b@example.org", "B@example.org", "c@example.org"):
        await before_004.execute(INSERT, email, "Acme", "pending", None, None)
    rows = await before_004.fetch("SELECT * FROM candidates ORDER BY id")
    schema = await database_schema(empty_database_url)

    sentence = await refusal(empty_database_url)

    assert sentence.startswith("2 address(es) are registered more than once")
    assert len(await before_004.fetch(sentence.partition("find them with: ")[2])) == 2
    assert await before_004.fetch("SELECT * FROM candidates ORDER BY id") == rows
    assert await database_schema(empty_database_url) == schema


TAKEN = 77  # another candidate's provider id
CONTRADICTIONS = (
    ("Acme", "approved", None, None),
    ("Acme", "pending", 5, None),
    ("Acme", "rejected", 5, None),
    ("Acme", "approved", 0, None),
    ("Acme", "approved", -1, None),
    ("Acme", "approved", TAKEN, None),
    ("Acme", "pending", None, "no trucks"),
    ("Acme", "approved", 5, "no trucks"),
    ("", "pending", None, None),
    ("   ", "pending", None, None),
    (" Acme", "pending", None, None),
    ("Acme ", "pending", None, None),
)


async def test_contradictory_candidate_stops_the_checks(
    empty_database_url: str, before_007: asyncpg.Connection, database_schema: Schema
) -> None:
    await before_007.execute(INSERT, "good@example.org", "Good", "approved", TAKEN, None)
    schema = await database_schema(empty_database_url)
    for contradiction in CONTRADICTIONS:
        await before_007.execute(INSERT, "bad@example.org", *contradiction)
        rows = await before_007.fetch("SELECT * FROM candidates ORDER BY id")

        sentence = await refusal(empty_database_url)

        wrong = 2 if TAKEN in contradiction else 1
        start = f"{wrong} candidate(s) contradict themselves or each other; find them with: SELECT id"
        assert sentence.startswith(start), contradiction
        assert "\n" not in sentence
        assert len(await before_007.fetch(sentence.partition("find them with: ")[2])) == wrong, contradiction
        assert await before_007.fetch("SELECT * FROM candidates ORDER BY id") == rows
        assert await database_schema(empty_database_url) == schema
        await before_007.execute("DELETE FROM candidates WHERE contact_email = 'bad@example.org'")


async def test_checks_refuse_contradictions_afterwards(empty_database_url: str, before_007: asyncpg.Connection) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url)
    await before_007.execute(INSERT, "good@example.org", "Good", "approved", 77, None)
    for name, row in {
        "ck_candidates_approved_has_provider": ("Acme", "approved", None, None),
        "ck_candidates_provider_id": ("Acme", "approved", 0, None),
        "uq_candidates_provider_id": ("Acme", "approved", 77, None),
        "ck_candidates_reason_only_when_rejected": ("Acme", "pending", None, "no trucks"),
        "ck_candidates_company_name_trimmed": ("Acme ", "pending", None, None),
    }.items():
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as raised:
            await before_007.execute(INSERT, "bad@example.org", *row)
        assert raised.value.constraint_name == name


@pytest.mark.parametrize(
    "left_behind",
    [
        "CREATE UNIQUE INDEX uq_candidates_provider_id ON candidates (id)",
        "ALTER TABLE candidates ADD CONSTRAINT ck_candidates_provider_id CHECK (provider_id >= 1) NOT VALID",
    ],
)
async def test_what_an_interrupted_run_left_is_no_obstacle(
    empty_database_url: str, before_007: asyncpg.Connection, database_schema: Schema, left_behind: str
) -> None:
    await before_007.execute(left_behind)

    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    assert "uq_candidates_provider_id ON candidates USING btree (provider_id)" in (
        schema := await database_schema(empty_database_url)
    )
    assert "NOT VALID" not in schema


async def test_row_that_slips_in_between_is_not_quoted(empty_database_url: str, before_004: asyncpg.Connection) -> None:
    await before_004.execute(INSERT, "secret@example.org", "Acme", "pending", None, None)
    # An uncommitted row is invisible to the check; the index build waits for it, and then finds it.
    latecomer = await asyncpg.connect(empty_database_url)
    transaction = latecomer.transaction()
    await transaction.start()
    await latecomer.execute(INSERT, "SECRET@example.org", "Acme", "pending", None, None)
    upgrade = asyncio.create_task(refusal(empty_database_url))
    while not await before_004.fetchval(INDEX_BUILD_WAITS):
        assert not upgrade.done()
        await asyncio.sleep(0.01)
    await transaction.commit()

    sentence = await upgrade
    assert "run the command again" in sentence
    assert "secret" not in sentence.lower()
    assert (await refusal(empty_database_url)).startswith("1 address(es)")

    await latecomer.execute("DELETE FROM candidates WHERE contact_email = 'SECRET@example.org'")
    await latecomer.close()
    await asyncio.to_thread(migrations.upgrade, empty_database_url)
    assert await asyncio.to_thread(migrations.current, empty_database_url) == migrations.head()


async def test_table_that_stays_locked_is_given_up_soon(
    empty_database_url: str, before_004: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "RETRY_SECONDS", 1.0)
    await asyncio.to_thread(migrations.downgrade, empty_database_url, "001_add_version_column")
    async with before_004.transaction():
        await before_004.execute("LOCK TABLE candidates IN ACCESS SHARE MODE")

        assert "run the same command again" in await refusal(empty_database_url)

        assert await asyncio.to_thread(migrations.current, empty_database_url) == "001_add_version_column"
