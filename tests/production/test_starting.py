"""What `serve` says at its start."""

from __future__ import annotations

import asyncio

from provider_registration import migrations

from .test_workers import eventually


async def test_what_is_wrong_around_it_is_logged_and_it_starts(serving, environment, empty_database_url, tmp_path):
    await asyncio.to_thread(migrations.upgrade, empty_database_url, "014_search_indexes")
    wrong = {
        "DATABASE_URL": empty_database_url,
        "DATABASE_POOLSIZE": "hunter2",
        "RATE_LIMIT_STORAGE_URL": "redis://127.0.0.1:1",
    }
    async with serving(environment | wrong, tmp_path) as process:

        async def all_are_said():
            said = {line["message"].partition(":")[0]: line for line in process.lines() if line["level"] == "WARNING"}
            return {"settings", "schema", "role", "redis"} <= set(said)

        await eventually(all_are_said)
        text = process.log.read_text()

    assert "DATABASE_POOLSIZE is set and is no setting" in text
    assert "014_search_indexes" in text
    assert "hunter2" not in text


async def test_a_start_where_all_is_well_warns_of_nothing(serving, environment, migrated_database_url, tmp_path):
    async with serving(environment, tmp_path) as process:
        lines = process.lines()

    assert {line["message"].partition(":")[0] for line in lines if line["level"] != "INFO"} <= {"role", "LC_CTYPE"}
