"""Files of companies, as spreadsheets write them and as nobody should."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from datetime import date
from uuid import uuid4

from openpyxl import Workbook

HEADINGS = ("Company", "E-mail", "Phone", "Products", "Trucks", "Capacity", "Location")


def a_row(**changes: object) -> list[object]:
    """The cells of a company that no other test uses, in the order of HEADINGS."""
    unique = uuid4().hex
    values = {
        "company_name": f"Huerta {unique} S.L.",
        "contact_email": f"{unique}@huerta.example",
        "phone": "+34 963 555 017",
        "products": "oranges, grapes",
        "truck_count": 12,
        "capacity_tons_per_day": 80,
        "location": "Valencia, España",
    }
    return list((values | changes).values())


def as_csv(
    rows: Iterable[Sequence[object]],
    *,
    headings: Sequence[str] = HEADINGS,
    separator: str = ",",
    encoding: str = "utf-8",
    first: str = "",
) -> bytes:
    """A CSV file."""
    text = io.StringIO(newline="")
    text.write(first)
    csv.writer(text, delimiter=separator).writerows([headings, *rows])
    return text.getvalue().encode(encoding)


def as_xlsx(rows: Iterable[Sequence[object]], *, headings: Sequence[str] = HEADINGS) -> bytes:
    """A workbook, as a spreadsheet program writes it."""
    book = Workbook()
    for row in (headings, *rows):
        book.active.append(list(row))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


SPREADSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def raw_xlsx(sheet: str | bytes, **parts: str) -> bytes:
    """A workbook with this XML as its only sheet; `parts` replace others."""
    names = {
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}"><Relationship Id="a" Type="{OFFICE}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{SPREADSHEET}" xmlns:r="{OFFICE}"><sheets>'
        '<sheet name="One" sheetId="1" r:id="b"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}">'
        f'<Relationship Id="b" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="c" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{SPREADSHEET}"/>',
        "xl/worksheets/sheet1.xml": sheet,
        **parts,
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return file.getvalue()


def sheet_of(rows: str) -> str:
    """The XML of a sheet."""
    return f'<worksheet xmlns="{SPREADSHEET}"><sheetData>{rows}</sheetData></worksheet>'


HEADING_ROW = "<row>" + "".join(f'<c t="inlineStr"><is><t>{each}</t></is></c>' for each in HEADINGS) + "</row>"
A_DATE = date(2026, 5, 5)
