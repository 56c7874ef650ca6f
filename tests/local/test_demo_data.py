"""Demo data, generated and loaded into a real PostgreSQL."""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result

from provider_registration.candidates.schemas import CandidateRegistration
from provider_registration.cli import main
from provider_registration.local import demo_data
from provider_registration.local.demo_data import COLUMNS, demo_rows, load_demo_data
from provider_registration.local.errors import LocalError
from provider_registration.settings import DatabaseSettings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REGISTERED_FIELDS = (
    *("company_name", "contact_email", "phone", "products"),
    *("truck_count", "capacity_tons_per_day", "location"),
)


def make(count: int, seed: int = 1) -> list[dict[str, object]]:
    rng = random.Random(seed)  # noqa: S311 - no secret is made of it
    rows = demo_rows(count, rng, first_number=1, first_provider_id=1_000_000_000, now=NOW)
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def async_url(database_url: str) -> str:
    return DatabaseSettings(database_url=database_url).database_url


async def load(database_url: str, count: int, seed: int | None = None) -> None:
    await load_demo_data(async_url(database_url), count, seed=seed, progress=lambda _: None)


async def run_command(*arguments: str, **environment: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["demo-data", *arguments], env=environment)


@pytest.fixture
def emptied(database: asyncpg.Connection, no_candidates: None) -> asyncpg.Connection:
    """A connection to the shared database, which holds no candidates."""
    return database


def test_every_company_could_have_registered_like_this() -> None:
    for row in make(4_000):
        told = {field: row[field] for field in REGISTERED_FIELDS}
        registration = CandidateRegistration.model_validate(told)
        assert (
            registration.model_dump(mode="json", exclude={"language"}) == told
        )  # nothing to trim, to normalise or to drop


def test_addresses_are_reserved_ones_and_differ() -> None:
    addresses = [str(row["contact_email"]) for row in make(4_000)]
    assert len(set(addresses)) == len(addresses)
    reserved = (".example", ".example.com", ".example.org", ".example.net")
    assert all(address.endswith(reserved) for address in addresses)


def test_names_come_in_many_alphabets() -> None:
    names = "".join(str(row["company_name"]) for row in make(2_000))
    scripts = {unicodedata.name(letter).split()[0] for letter in names if letter.isalpha()}
    assert scripts >= {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "CJK", "HANGUL"}
    assert "é" in names
    assert "ł" in names


def test_company_names_differ_since_billing_wants_it() -> None:
    names = [row["company_name"] for row in make(4_000)]
    assert len(set(names)) == len(names)


def test_same_seed_makes_the_same_companies() -> None:
    assert make(50, seed=7) == make(50, seed=7)
    assert make(50, seed=7) != make(50, seed=8)


def test_companies_deliver_one_to_five_different_products() -> None:
    products = [row["products"] for row in make(2_000)]
    assert {len(these) for these in products} == {1, 2, 3, 4, 5}
    assert all(len(set(these)) == len(these) for these in products)
    everything = {"apples", "oranges", "grapes", "bananas", "mangoes"}
    assert {product for these in products for product in these} == everything


async def test_loaded_companies_are_pending_approved_and_rejected(
    emptied: asyncpg.Connection, migrated_database_url: str
) -> None:
    before = datetime.now(UTC)
    steps: list[int] = []
    await load_demo_data(async_url(migrated_database_url), 7_000, seed=1, progress=steps.append)
    assert steps == [5_000, 2_000]

    rows = await emptied.fetch("SELECT * FROM candidates")
    by_status = Counter(row["status"] for row in rows)
    assert len(rows) == 7_000
    for status, share in (("pending", 0.6), ("approved", 0.3), ("rejected", 0.1)):
        assert abs(by_status[status] / len(rows) - share) < 0.03

    for row in rows:
        assert before - timedelta(days=366) < row["created_at"] < before + timedelta(minutes=1)
        if row["status"] == "pending":
            assert (row["version"], row["updated_at"]) == (1, row["created_at"])
        else:
            assert row["version"] == 2
            assert row["created_at"] < row["updated_at"] <= datetime.now(UTC)
    provider_ids = sorted(row["provider_id"] for row in rows if row["status"] == "approved")
    assert provider_ids == list(range(1_000_000_000, 1_000_000_000 + len(provider_ids)))
    reasons = [row["rejection_reason"] for row in rows if row["status"] == "rejected"]
    assert None in reasons
    assert any(reasons)


async def test_second_load_with_the_same_seed_adds_others(
    emptied: asyncpg.Connection, migrated_database_url: str
) -> None:
    await load(migrated_database_url, 300, seed=1)
    await load(migrated_database_url, 200, seed=1)
    totals = await emptied.fetchrow("""
        SELECT count(*) AS rows, count(DISTINCT lower(contact_email)) AS addresses,
               count(provider_id) AS approved, max(provider_id) - 1000000000 + 1 AS provider_ids
        FROM candidates
    """)
    assert (totals["rows"], totals["addresses"]) == (500, 500)
    assert totals["approved"] == totals["provider_ids"]


async def test_load_goes_on_after_addresses_and_providers_of_others(
    emptied: asyncpg.Connection, migrated_database_url: str
) -> None:
    await emptied.execute("""
        INSERT INTO candidates
            (status, company_name, contact_email, products, truck_count, capacity_tons_per_day, provider_id)
        VALUES ('approved', 'Huerta', 'info@huerta-valencia-500.example', '{oranges}', 1, 1, 1000000500),
               ('approved', 'Granja', 'info@granja.example', '{oranges}', 1, 1, 3)
    """)
    await load(migrated_database_url, 100)
    assert (
        await emptied.fetchval("SELECT min(provider_id) FROM candidates WHERE provider_id > 1000000500") == 1000000501
    )
    assert await emptied.fetchval("SELECT count(*) FROM candidates WHERE contact_email ~ '-(5[0-9]{2}|600)[.]'") == 101


async def test_load_refuses_when_provider_ids_would_run_out(
    emptied: asyncpg.Connection, migrated_database_url: str
) -> None:
    await emptied.execute("""
        INSERT INTO candidates
            (status, company_name, contact_email, products, truck_count, capacity_tons_per_day, provider_id)
        VALUES ('approved', 'Huerta', 'info@huerta.example', '{oranges}', 1, 1, 2147483600)
    """)
    with pytest.raises(LocalError, match="not enough"):
        await load(migrated_database_url, 100)
    assert await emptied.fetchval("SELECT count(*) FROM candidates") == 1


async def test_interrupted_load_leaves_whole_batches(
    emptied: asyncpg.Connection, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_data, "BATCH", 100)

    async def load_and_interrupt_the_third_batch() -> None:
        task = asyncio.current_task()
        assert task is not None
        steps: list[int] = []

        def progress(rows: int) -> None:
            steps.append(rows)
            if len(steps) == 2:
                task.cancel()

        await load_demo_data(async_url(migrated_database_url), 1_000, seed=None, progress=progress)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(load_and_interrupt_the_third_batch())
    assert await emptied.fetchval("SELECT count(*) FROM candidates") == 200


async def test_two_loads_at_once_are_refused(emptied: asyncpg.Connection, migrated_database_url: str) -> None:
    await emptied.execute("SELECT pg_advisory_lock($1)", demo_data.ADVISORY_LOCK)
    try:
        with pytest.raises(LocalError, match="Another process"):
            await load(migrated_database_url, 10)
    finally:
        await emptied.execute("SELECT pg_advisory_unlock($1)", demo_data.ADVISORY_LOCK)
    await load(migrated_database_url, 10)
    await load(migrated_database_url, 10)  # its lock ended with the first one


async def test_load_into_a_database_without_tables_says_migrate(empty_database_url: str) -> None:
    with pytest.raises(LocalError, match="run migrate first"):
        await load(empty_database_url, 10)


async def test_command_fills_the_database_of_the_environment(
    emptied: asyncpg.Connection, migrated_database_url: str
) -> None:
    result = await run_command("--count", "120", "--seed", "3", DATABASE_URL=migrated_database_url)
    assert result.exit_code == 0, result.output
    assert "Companies added: 120" in result.output
    assert await emptied.fetchval("SELECT count(*) FROM candidates") == 120


async def test_command_finds_the_database_of_a_running_service(
    emptied: asyncpg.Connection, migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # away from the checkout's .env
    (tmp_path / "database-url").write_text(migrated_database_url)
    result = await run_command("--count", "30", DATABASE_URL="", LOCAL_DATA_DIR=str(tmp_path))
    assert result.exit_code == 0, result.output
    assert await emptied.fetchval("SELECT count(*) FROM candidates") == 30


async def test_command_without_any_database_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = await run_command("--count", "30", DATABASE_URL="", LOCAL_DATA_DIR=str(tmp_path))
    assert result.exit_code == 1
    assert "DATABASE_URL" in result.output


async def test_command_names_a_database_that_cannot_be_reached(migrated_database_url: str) -> None:
    for url in (f"{migrated_database_url}_gone", "postgresql://somebody:s3cret@127.0.0.1:1/none"):
        result = await run_command("--count", "30", DATABASE_URL=url)
        assert result.exit_code == 1
        assert "The database cannot be reached: " in result.output
        assert "s3cret" not in result.output
