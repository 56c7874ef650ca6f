"""Export and erasure cover the rows of files that are not registered."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest
from click.testing import CliRunner

from provider_registration.cli import main

from .files import a_row, as_csv

pytestmark = pytest.mark.usefixtures("no_candidates")


@pytest.fixture
def call(migrated_database_url):
    async def call(*arguments):
        environment = {"DATABASE_URL": migrated_database_url}
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, input="y\n", env=environment)

    return call


@pytest.mark.parametrize("is_started", [False, True])
async def test_rows_with_an_address_in_any_spelling_and_cell_are_exported_and_erased(
    call, send, run, admin, database, is_started
):
    unique = uuid4().hex
    rows = [
        a_row(contact_email=f"Ana.{unique}@HUERTA.example", truck_count="?"),
        a_row(location=f"Ana <ana.{unique}@huerta.example>, Valencia", truck_count="?"),
        a_row(truck_count="?"),
    ]
    content = as_csv(rows)
    import_id = (await run(content) if is_started else (await send(content)).json())["import_id"]
    email = f"ana.{unique}@huerta.example"
    exported = await call("export-data", email)
    assert exported.exit_code == 0, exported.output
    found = json.loads(exported.stdout)
    assert [(row["row"], row["cells"][0]) for row in found["import_rows"]] == [(2, rows[0][0]), (3, rows[1][0])]
    assert (found["candidate"], found["user"]) == (None, None)

    erased = await call("erase-data", email)
    assert erased.exit_code == 0, erased.output
    left = await database.fetchval(
        "SELECT string_agg(import_rows::text, '') FROM import_rows WHERE import_id = $1", import_id
    )
    assert unique not in left.lower()
    assert rows[2][0] in left
    assert rows[0][0] not in (await admin.get(f"/imports/{import_id}/failed.csv")).text
    counts = (await admin.get(f"/imports/{import_id}")).json()["counts"]
    assert counts["erased"] == 2
    assert (await call("export-data", email)).exit_code != 0
