"""Files of companies to import, some of them with errors."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from openpyxl import Workbook

HEADINGS = ("Company", "E-mail", "Phone", "Products", "Trucks", "Capacity", "Location")
NAMES = ("Huerta", "Frutas", "Obsthof", "Vergers", "Agrícola", "Finca", "Sadownictwo", "Citrus", "Cooperativa")
PLACES = ("Valencia, España", "Sevilla, España", "Jork, Deutschland", "Lleida, España", "Grójec, Polska")
PRODUCTS = ("oranges, grapes", "naranjas y uvas", "apples", "manzanas; plátanos", "mangoes, bananas")
FAULTY_SHARE = 0.02
# A cell of a faulty row by its column; None: an additional one.
FAULTS: tuple[tuple[int | None, str], ...] = (
    (0, ""),
    (1, ""),
    (1, "office at company.example"),
    (2, "ask Maria"),
    (3, "stones"),
    (4, "0"),
    (4, "twelve"),
    (5, "-1"),
    (None, "a note"),
)


@dataclass(frozen=True)
class Companies:
    """The rows of a file, and what the faulty ones should have been, by their number in the file."""

    rows: list[list[str]]
    corrected: dict[int, list[str]]


def companies(count: int, mark: str) -> Companies:
    """Make companies; `mark` is in their e-mail addresses."""
    random = Random(mark)  # noqa: S311 - no secret
    rows, corrected = [], {}
    faulty = set(random.sample(range(count), round(count * FAULTY_SHARE)))
    for index in range(count):
        row = [
            f"{random.choice(NAMES)} {random.choice(NAMES)} {mark} {index} S.L.",
            f"office@{mark}-{index}.example",
            f"+34 963 {index % 1_000_000:06}",
            random.choice(PRODUCTS),
            str(1 + index % 40),
            str(10 + index % 300),
            random.choice(PLACES),
        ]
        if index in faulty:
            corrected[index + 2] = row  # below the headings
            row = _spoilt(row, *FAULTS[len(corrected) % len(FAULTS)])
        rows.append(row)
    return Companies(rows, corrected)


def _spoilt(row: list[str], column: int | None, cell: str) -> list[str]:
    if column is None:
        return [*row, cell]
    return [*row[:column], cell, *row[column + 1 :]]


def as_csv(rows: Sequence[Sequence[str]]) -> bytes:
    """A CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADINGS, *rows])
    return text.getvalue().encode()


def as_xlsx(rows: Sequence[Sequence[str]]) -> bytes:
    """A workbook, as a spreadsheet program writes it."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in (HEADINGS, *rows):
        sheet.append([int(cell) if cell.isdecimal() else cell or None for cell in row])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()
