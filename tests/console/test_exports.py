"""Exports contain no formulas, however they are read, and long ones need no more memory."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import json
import time
import tracemalloc
from datetime import UTC, datetime
from uuid import uuid4

import openpyxl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from provider_registration.candidates.company import Product
from provider_registration.candidates.exports import FIELDS, as_csv, as_xlsx
from provider_registration.candidates.models import Candidate, Status
from provider_registration.web import workbooks

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
DELIMITERS = [",", ";", "\t", "|"]
AT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
OBSTHOF = Candidate(
    candidate_id=uuid4(),
    status=Status.REJECTED,
    company_name="Obsthof Lindner KG",
    contact_email="info@obsthof.example",
    phone="+49 4162 555 017",
    products=[Product.APPLES, Product.GRAPES],
    truck_count=7,
    capacity_tons_per_day=40,
    location="Jork",
    created_at=AT,
    updated_at=AT,
    provider_id=None,
    version=2,
    rejection_reason="Too far",
    rejected_by=None,
    approval=None,
)
# Characters that spreadsheets interpret, among ordinary text.
TEXT = st.text(st.sampled_from("=+-@＝＋－＠;|,\t\r\n\"' a1\ufeff\u00a0") | st.characters(codec="utf-8"), max_size=20)


def line_of(candidate):
    """The line that PostgreSQL makes of a candidate."""
    record = candidate.model_dump(mode="json") | {"decided_at": candidate.model_dump(mode="json")["updated_at"]}
    return json.dumps({field: record[field] for field in FIELDS}, ensure_ascii=False) + "\n"


async def some(*candidates):
    for candidate in candidates:
        yield line_of(candidate)


async def csv_of(*candidates):
    return "".join([part async for part in as_csv(some(*candidates))])


async def xlsx_of(*candidates):
    return b"".join([part async for part in as_xlsx(some(*candidates))])


def cells_of(text, delimiter):
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    return [cell for row in reader for cell in row]


@pytest.mark.asvs("V5")
@settings(max_examples=150, deadline=None)
@given(names=st.lists(TEXT, min_size=1, max_size=3), reason=TEXT, phone=TEXT)
@example(["Acme;=1+1;Ltd"], "", "+34 963 555 017")
@example(['Acme;"=1+1"'], "", "")
@example(["Acme|\uff1d1+1"], "a;", '"+1;"')
@example(["Acme;"], "No, thanks;", "")
@example(["Acme\r=1+1"], "a\t=1", "a\n@x")
async def test_no_cell_begins_a_formula_whichever_separator_a_csv_is_read_with(names, reason, phone):
    text = await csv_of(
        *(
            OBSTHOF.model_copy(
                update={"company_name": name, "location": name, "rejection_reason": reason, "phone": phone}
            )
            for name in names
        )
    )

    for delimiter in DELIMITERS:
        assert [cell for cell in cells_of(text, delimiter) if cell.startswith(FORMULA_STARTS)] == []


@settings(max_examples=100, deadline=None)
@given(name=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=40))
@example("Acme, -5% Ltd; Sons | Co.")
async def test_a_csv_says_what_was_typed_but_for_apostrophes(name):
    [_, row] = csv.reader(
        io.StringIO((await csv_of(OBSTHOF.model_copy(update={"company_name": name}))).removeprefix("\ufeff"))
    )

    assert row[list(FIELDS).index("company_name")].replace("'", "") == name.replace("'", "")


async def test_a_telephone_number_in_a_csv_is_whole_and_text():
    row = next(csv.DictReader(io.StringIO((await csv_of(OBSTHOF)).removeprefix("\ufeff"))))

    assert row["phone"] == "'+49 4162 555 017"  # without the apostrophe, Excel would read a number


def lines_of(text):
    return text.replace("\r\n", "\n").replace("\r", "\n")  # XML's own line end


@pytest.mark.asvs("V5")
@settings(max_examples=50, deadline=None)
@given(name=TEXT, reason=TEXT)
@example("=1+1", "+34 963 555 017")
@example("_x0041_ & <b>", "'quoted'")
async def test_text_in_a_workbook_is_text_as_it_was_typed(name, reason):
    content = await xlsx_of(OBSTHOF.model_copy(update={"company_name": name, "rejection_reason": reason}))

    [_, row] = openpyxl.load_workbook(io.BytesIO(content)).active.iter_rows()
    for field, typed in (("company_name", name), ("rejection_reason", reason), ("phone", OBSTHOF.phone)):
        cell = row[list(FIELDS).index(field)]
        kept = workbooks._NO_XML.sub("", typed)
        assert lines_of(unescape(cell.value or "")) == lines_of(kept)
        assert cell.data_type == ("s" if typed else "n")
        assert cell.number_format == ("@" if typed else "General")


async def test_numbers_and_instants_in_a_workbook_can_be_calculated_with():
    sheet = openpyxl.load_workbook(io.BytesIO(await xlsx_of(OBSTHOF))).active

    assert [cell.value for cell in sheet[1]] == list(FIELDS)
    row = dict(zip(FIELDS, [cell.value for cell in sheet[2]], strict=True))
    assert (row["truck_count"], row["capacity_tons_per_day"], row["provider_id"]) == (7, 40, None)
    assert row["created_at"] == row["decided_at"] == AT.replace(tzinfo=None)
    assert row["products"] == "apples grapes"


async def test_an_empty_workbook_has_the_headings():
    assert openpyxl.load_workbook(io.BytesIO(await xlsx_of())).active.max_row == 1


async def test_more_than_a_sheet_holds_goes_on_in_another(monkeypatch):
    monkeypatch.setattr(workbooks, "MAX_ROWS", 3)

    workbook = openpyxl.load_workbook(io.BytesIO(await xlsx_of(*[OBSTHOF] * 5)))

    assert workbook.sheetnames == ["Candidates", "Candidates 2", "Candidates 3"]
    assert [sheet.max_row for sheet in workbook] == [3, 3, 2]
    assert all(sheet["A1"].value == "candidate_id" for sheet in workbook)


async def test_a_long_workbook_is_streamed_without_blocking_requests():
    async def very_many():
        for _ in range(40):
            names = [uuid4().hex for _ in range(200)]  # do not compress well
            yield "".join(line_of(OBSTHOF.model_copy(update={"company_name": name})) for name in names)

    longest_wait = 0.0

    async def others():
        nonlocal longest_wait
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            longest_wait = max(longest_wait, time.monotonic() - began)

    task = asyncio.create_task(others())
    tracemalloc.start()
    parts = [len(part) async for part in as_xlsx(very_many())]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    task.cancel()

    assert sum(parts) > 80_000
    assert max(parts) < sum(parts) / 10
    assert most < 2_000_000
    assert longest_wait < 1.0  # the whole export takes seconds


async def test_a_workbook_that_is_given_up_ends_quietly():
    parts = as_xlsx(some(*[OBSTHOF] * 1000))

    await anext(parts)
    await parts.aclose()
    del parts
    gc.collect()  # pytest fails on errors in finalizers


@pytest.mark.parametrize("kind", ["csv", "xlsx", "json"])
async def test_each_kind_can_be_had(viewer, register, kind):
    candidate = await register(company_name=f"=Obst {uuid4().hex}")

    response = await viewer.open(f"/admin/candidates/export.{kind}?search={candidate['contact_email']}")

    assert response.status_code == 200
    assert f".{kind}" in response.headers["Content-Disposition"]
    content = response.content
    if kind == "xlsx":
        [_, row] = openpyxl.load_workbook(io.BytesIO(content)).active.iter_rows(values_only=True)
        assert row[list(FIELDS).index("company_name")] == candidate["company_name"]
    else:
        assert candidate["company_name"] in content.decode()


@pytest.mark.parametrize("kind", ["csv", "xlsx", "json"])
async def test_head_of_an_export_records_none(viewer, database, kind):
    exports = "SELECT count(*) FROM audit_events WHERE type = 'candidates.exported'"
    before = await database.fetchval(exports)
    response = await viewer.ask("HEAD", f"/admin/candidates/export.{kind}")

    assert (response.status_code, response.content) == (200, b"")
    assert f".{kind}" in response.headers["Content-Disposition"]
    assert "Content-Length" not in response.headers
    assert await database.fetchval(exports) == before
