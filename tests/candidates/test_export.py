"""The API exports what its list finds, in every format, and records it."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import openpyxl
import pytest
from sqlalchemy import event, text

from provider_registration.candidates import list_queries, search
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.exports import FIELDS, WRITERS
from provider_registration.candidates.selection import Selection
from provider_registration.db.database import Database

pytestmark = pytest.mark.usefixtures("no_candidates")


async def test_every_format_has_what_the_list_finds(viewer, register):
    wanted = [await register(truck_count=7) for _ in range(3)]
    await register(truck_count=2)
    ids = [each["candidate_id"] for each in reversed(wanted)]
    found = {kind: await viewer.get(f"/candidates.{kind}?trucks_min=5") for kind in ("csv", "json", "jsonl", "xlsx")}
    assert {response.status_code for response in found.values()} == {200}
    rows = list(csv.DictReader(io.StringIO(found["csv"].content.decode("utf-8-sig"))))
    assert [row["candidate_id"] for row in rows] == ids
    assert [row["candidate_id"] for row in found["json"].json()] == ids
    lines = [json.loads(line) for line in found["jsonl"].text.splitlines()]
    assert lines == found["json"].json()
    assert found["jsonl"].headers["Content-Type"] == "application/jsonl"
    sheet = openpyxl.load_workbook(io.BytesIO(found["xlsx"].content)).active
    assert [row[0] for row in sheet.iter_rows(min_row=2, values_only=True)] == ids


async def test_a_line_has_the_fields_of_the_record(viewer, admin, register, database):
    pending, rejected, approved = [await register(products=["apples", "grapes"]) for _ in range(3)]
    await admin.post(f"/candidates/{rejected['candidate_id']}/reject", json={"reason": 'No "cold" chain'})
    strange = ('Obst "\\"\n\u2028 {漢字} & Söhne\x7f', "Jork / \\n,\t'Süd'", pending["candidate_id"])
    await database.execute(
        "UPDATE candidates SET company_name = $1, location = $2, phone = NULL WHERE id = $3", *strange
    )
    await database.execute(
        "UPDATE candidates SET status = 'approved', provider_id = 7, updated_at = '2026-01-02Z' WHERE id = $1",
        approved["candidate_id"],
    )

    lines = (await viewer.get("/candidates.jsonl?sort=created_at")).text.split("\n")[:-1]

    ids = [each["candidate_id"] for each in (pending, rejected, approved)]
    records = [(await viewer.get(f"/candidates/{each}")).json() for each in ids]
    for record in records:
        record["decided_at"] = None if record["status"] == "pending" else record["updated_at"]
    assert [list(json.loads(line)) for line in lines] == [list(FIELDS)] * 3
    assert records[0]["company_name"] == strange[0]
    assert [json.loads(line) for line in lines] == [{field: record[field] for field in FIELDS} for record in records]
    assert [record["status"] for record in records] == ["pending", "rejected", "approved"]


@pytest.mark.parametrize("kind", WRITERS)
async def test_while_a_client_does_not_read_no_connection_is_held_and_no_more_rows_are_read(
    migrated_database_url, register, monkeypatch, kind
):
    for _ in range(5):
        await register()
    monkeypatch.setattr(list_queries, "MAX_PAGE", 1)
    monkeypatch.setattr(search, "MAX_PAGE", 1)
    list_queries.list_statement.cache_clear()
    database = Database(migrated_database_url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=1)
    executed = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: executed.append(arguments[2]))
    write, _ = WRITERS[kind]
    parts = write(BrowsingService(database).lines(Selection()))

    if kind == "csv":
        await anext(parts)  # the heading
    await anext(parts)
    count = len(executed)
    async with asyncio.timeout(10), database.transaction() as session:  # the only connection
        assert await session.scalar(text("SELECT 1")) == 1
    assert 0 < count < 5  # one for each part; a workbook compresses some together
    rest = [part async for part in parts]

    assert rest
    assert len(executed) > 5
    list_queries.list_statement.cache_clear()
    await database.close()


async def test_an_export_is_recorded_without_values_and_a_look_at_its_headers_is_not(viewer, auditor, register):
    await register()
    before = (await auditor.get("/audit?limit=1")).json()["events"][0]["id"]
    await viewer.head("/candidates.jsonl?q=secret")
    assert (await auditor.get("/audit?limit=1")).json()["events"][0]["id"] == before
    await viewer.get("/candidates.jsonl?q=secret")
    [event] = (await auditor.get("/audit?limit=1")).json()["events"]
    assert (event["type"], event["data"]) == ("candidates.exported", {"format": "jsonl", "filters": ["q"]})


async def test_unknown_formats_and_parameters_are_refused(viewer, anonymous):
    assert (await viewer.get("/candidates.pdf")).status_code == 422
    assert (await viewer.get("/candidates.csv?limit=3")).status_code == 422
    assert (await viewer.get("/candidates.csv?sort=relevance")).status_code == 422
    assert (await anonymous.get("/candidates.csv")).status_code == 401
