"""Files of every spreadsheet are read, and no file makes the service stop, wait or remember more than it should."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
from datetime import date, datetime

import openpyxl
import pytest

from provider_registration.imports import limits
from provider_registration.imports.__main__ import read as lines_of
from provider_registration.imports.errors import FileUnreadable
from provider_registration.imports.reading import PROGRAM, reading_process

from .files import HEADING_ROW, HEADINGS, a_row, as_csv, as_xlsx, raw_xlsx, sheet_of

MILLION = 1_000_000


def read(content):
    """The head of a file, and its rows as (number, cells)."""
    head, *parts, last = lines_of(content)
    rows = [(row["row"], row["cells"]) for part in parts for row in part]
    assert last == {"rows": len(rows)}
    return head, rows


def refusal(content):
    """Why a file is refused."""
    with pytest.raises(limits.Unreadable) as caught:
        read(content)
    return str(caught.value)


ROW = ["Señor José & Hijos", "jose@huerta.example", "963 555 017", "milk, eggs", "12", "80", "A Coruña"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_encoding_and_separator_are_found(encoding, separator):
    head, rows = read(as_csv([ROW, ROW], separator=separator, encoding=encoding))
    assert rows == [(2, ROW), (3, ROW)]
    assert (head["columns"], head["separator"]) == (list(HEADINGS), separator)
    assert head["encoding"] == encoding.removesuffix("-sig")


def test_excel_names_its_separator_in_a_first_line():
    head, rows = read(as_csv([ROW], separator=";", first="sep=;\r\n"))
    assert (head["separator"], rows) == (";", [(3, ROW)])


def test_a_separator_inside_cells_does_not_count():
    row = ["A; B; C", "a@b.example", "1", "apples;oranges;grapes", "1", "1", "x;y"]
    assert (read(as_csv([row] * 5)))[1][0] == (2, row)


def test_line_breaks_in_quotes_belong_to_the_cell_and_empty_rows_are_left_out_but_counted():
    content = b'Company,E-mail\r\n"Two\r\nlines",a@b.example\r\n\r\n,,\r\nB,"say ""hi""@b.example"\r\n'
    assert (read(content))[1] == [(2, ["Two\r\nlines", "a@b.example"]), (5, ["B", 'say "hi"@b.example'])]


def test_headings_may_be_empty_or_repeated():
    head, _ = read(as_csv([["a", "b", "c", "d"]], headings=["E-mail", "", "E-mail", "Note\n s"]))
    assert head["columns"] == ["E-mail", "Column 2", "E-mail (2)", "Note s"]


def test_numbers_and_dates_of_workbooks_are_as_typed():
    book = openpyxl.Workbook()
    book.active.append(["a", "b", "c", "d", "e", "f", "g"])
    book.active.append([34963555017, 80.0, 80.5, date(2026, 5, 5), datetime(2026, 5, 5, 13, 30), True, "007"])  # noqa: DTZ001 - spreadsheets have none
    book.active.append(["=1+1", "#N/A", 1e20, None, "x"])
    file = io.BytesIO()
    book.save(file)
    _, rows = read(file.getvalue())
    assert rows[0] == (2, ["34963555017", "80", "80.5", "2026-05-05", "2026-05-05 13:30:00", "TRUE", "007"])
    assert rows[1] == (3, ["", "#N/A", "1e+20", "", "x"])  # the formula has no result yet


def test_the_first_visible_sheet_is_read():
    book = openpyxl.Workbook()
    book.active.title, book.active.sheet_state = "Hidden", "hidden"
    shown = book.create_sheet("Suppliers & more")
    shown.append(["Company"])
    shown.append(["A"])
    file = io.BytesIO()
    book.save(file)
    head, rows = read(file.getvalue())
    assert (head["sheet"], rows) == ("Suppliers & more", [(2, ["A"])])


def test_cells_without_references_shared_and_escaped_texts_and_phonetic_hints_are_read():
    shared = '<sst xmlns="x"><si><r><t>Ta</t></r><r><t>ro_x0041_</t></r><rPh sb="0" eb="1"><t>hint</t></rPh></si></sst>'
    relations = (
        '<Relationships><Relationship Id="b" Type="t/worksheet" Target="/xl/worksheets/sheet1.xml"/>'
        '<Relationship Id="s" Type="t/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
    )
    sheet = (
        sheet_of(
            '<row r="3"><c t="inlineStr"><is><t>Company</t></is></c></row>'
            '<row r="7"><c t="s"><v>0</v></c><c r="D7" t="str"><f>1+1</f><v>two</v></c></row>'
        )
        .replace("<", "<x:")
        .replace("<x:/", "</x:")
    )
    content = raw_xlsx(
        sheet.replace('xmlns="', 'xmlns:x="'),
        **{"xl/sharedStrings.xml": shared, "xl/_rels/workbook.xml.rels": relations},
    )
    assert (read(content))[1] == [(7, ["TaroA", "", "", "two"])]


def row_of(text):
    return f'<row><c t="inlineStr"><is><t>{text}</t></is></c></row>'


# Most would be read without the one thing that is wrong.
HOSTILE = {
    "a line of 20 MiB": lambda: b"a" * (limits.MAX_FILE_BYTES - 1),
    "a line of 20 MiB of separators": lambda: b"," * (limits.MAX_FILE_BYTES - 1),
    "a quotation mark that is never closed": lambda: b"Company,E-mail\r\n" + b'"' + b"a,b\r\n" * 1_000_000,
    "NUL": lambda: b"Company\r\n\0\0\r\n",
    "no text": lambda: bytes(range(128, 160)) * 100,
    "16,384 columns": lambda: as_csv([], headings=[f"c{number}" for number in range(16_384)]),
    "a longer row": lambda: as_csv([["x"] * 200]),
    "nothing": lambda: b"",
    "only headings": lambda: as_csv([]),
    "a million empty rows": lambda: as_csv([]) + b",,,\r\n" * 1_000_000,
    "too many rows": lambda: b"Company\r\n" + b"a\r\n" * (limits.MAX_ROWS + 1),
    "an old workbook": lambda: b"\xd0\xcf\x11\xe0" + b"\0" * 1000,
    "half a workbook": lambda: as_xlsx([a_row()])[:2000],
    "another archive": lambda: b"PK\x03\x04" + b"x" * 1000,
    "entities": lambda: raw_xlsx('<!DOCTYPE a [<!ENTITY b "bbbb">]>' + sheet_of(HEADING_ROW + row_of("&b;"))),
    "not XML": lambda: raw_xlsx("<worksheet><sheetData>"),
    "corners": lambda: raw_xlsx(sheet_of(HEADING_ROW + '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>')),
    "an unknown shared text": lambda: raw_xlsx(sheet_of(HEADING_ROW + '<row><c t="s"><v>7</v></c></row>')),
    "a million empty rows of a workbook": lambda: raw_xlsx(sheet_of(HEADING_ROW + "<row><c/></row>" * MILLION)),
    "300 MiB in 300 kB": lambda: raw_xlsx(sheet_of(HEADING_ROW + row_of("a") + " " * (300 << 20))),
    "a long text": lambda: raw_xlsx(sheet_of(row_of("a" * (100 << 20)))),
}


def test_a_workbook_of_such_parts_is_read():
    assert read(raw_xlsx(sheet_of(HEADING_ROW + row_of("a") + " ")))[1] == [(2, ["a"])]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_or_empty_file_is_refused(kind):
    assert refusal(HOSTILE[kind]())


def test_a_text_that_many_cells_share_does_not_fill_the_disk():
    shared = f"<sst><si><t>{'a' * 9000}</t></si></sst>"
    relations = (
        '<Relationships><Relationship Id="b" Type="t/worksheet" Target="/xl/worksheets/sheet1.xml"/>'
        '<Relationship Id="s" Type="t/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
    )
    rows = '<row><c t="s"><v>0</v></c><c t="s"><v>0</v></c></row>' * 50_000
    content = raw_xlsx(sheet_of(rows), **{"xl/sharedStrings.xml": shared, "xl/_rels/workbook.xml.rels": relations})
    assert len(content) < 100_000
    assert "too much text" in refusal(content)


async def _once(content):
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


async def test_a_process_reads_the_file_as_it_arrives():
    rows = [a_row() for _ in range(450)]
    async with reading_process() as reading:
        content = as_csv(rows)
        assert await reading.feed(_once(content)) == hashlib.sha256(content).hexdigest()
        parts = [json.loads(part) for part in [part async for part in reading.parts()]]
    assert [len(part) for part in parts] == [100, 100, 100, 100, 50]
    assert (reading.head["columns"], reading.rows) == (list(HEADINGS), 450)
    assert parts[0][0]["addresses"] == rows[0][1]
    assert reading.process.returncode is not None


async def test_a_process_that_dies_makes_the_file_unreadable():
    async with reading_process() as reading:
        reading.process.kill()
        with pytest.raises(FileUnreadable):
            await reading.feed(_once(as_csv([a_row()] * 1000)))


async def test_a_file_that_takes_too_much_memory_is_refused():
    program = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_AS, (60 << 20,) * 2); "
        f"runpy.run_module({PROGRAM!r}, run_name='__main__')"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", program), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(as_csv([a_row()]) + b"a,b\r\n" * 3_000_000)
    assert b"too much memory" in output
