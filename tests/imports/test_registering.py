"""The rows of a file are worked on part by part, and what happens to them meanwhile is seen."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from click.testing import CliRunner

from provider_registration.cli import main
from provider_registration.imports import registering
from provider_registration.imports.limits import ROWS_IN_PART

from .files import a_row, as_csv


@pytest.mark.parametrize("count", [ROWS_IN_PART, ROWS_IN_PART + 1])
async def test_the_rows_at_the_end_of_a_part_are_registered(run, count):
    done = await run(as_csv([a_row() for _ in range(count)]))

    assert (done["done"], done["counts"]["registered"]) == (count, count)


@pytest.mark.parametrize("is_dry", [False, True])
async def test_a_row_that_is_erased_while_it_is_checked_is_left_out(
    run, database, migrated_database_url, monkeypatch, is_dry
):
    email = f"{uuid4().hex}@huerta.example"
    validate = registering._validate

    async def validate_and_erase(*arguments):
        checked = await validate(*arguments)
        environment = {"DATABASE_URL": migrated_database_url}
        erased = await asyncio.to_thread(CliRunner().invoke, main, ["erase-data", email], input="y\n", env=environment)
        assert erased.exit_code == 0, erased.output
        return checked

    monkeypatch.setattr(registering, "_validate", validate_and_erase)
    done = await run(as_csv([a_row(contact_email=email), a_row()]), dry_run=is_dry)

    assert (done["counts"]["erased"], done["counts"]["valid" if is_dry else "registered"]) == (1, 1)
    assert await database.fetchval("SELECT count(*) FROM candidates WHERE contact_email = $1", email) == 0
    left = await database.fetchval(
        "SELECT string_agg(import_rows::text, '') FROM import_rows WHERE import_id = $1", done["import_id"]
    )
    assert email not in left
