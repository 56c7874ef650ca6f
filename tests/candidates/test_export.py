"""The API exports what its list finds, in every format, and records it."""

from __future__ import annotations

import csv
import io
import json

import openpyxl
import pytest

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
