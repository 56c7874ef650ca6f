"""Exports of candidates, streamed: a million rows need no more memory than ten.

PostgreSQL returns some hundred candidates at a time as JSON Lines. Other formats are made of them in a thread, so that
the event loop stays free.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from provider_registration.candidates.queries import EXPORTED
from provider_registration.web.csv_files import BYTE_ORDER_MARK, csv_lines
from provider_registration.web.workbooks import MEDIA_TYPE as XLSX
from provider_registration.web.workbooks import Cell, Workbook

FIELDS = tuple(EXPORTED)  # the columns of an export, in order
INSTANTS = ("created_at", "decided_at")  # are times in a workbook, and text elsewhere


async def as_csv(parts: AsyncIterator[str]) -> AsyncIterator[str]:
    """RFC 4180 with a header line, in UTF-8 with the byte order mark that spreadsheets need."""
    yield BYTE_ORDER_MARK + csv_lines([FIELDS])
    async for lines in parts:
        yield await asyncio.to_thread(_csv_of, lines)


async def as_xlsx(parts: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """A workbook with text cells as text."""
    workbook = Workbook("Candidates", FIELDS)
    async for lines in parts:
        await asyncio.to_thread(_add, workbook, lines)
        if part := workbook.take():
            yield part
    await asyncio.to_thread(workbook.close)
    yield workbook.take()


async def as_json(parts: AsyncIterator[str]) -> AsyncIterator[str]:
    """One array of objects."""
    separator = "[\n"
    async for lines in parts:
        yield separator + _joined(lines, ",\n")
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


async def as_json_lines(parts: AsyncIterator[str]) -> AsyncIterator[str]:
    """One object a line, for programs that read a file piece by piece."""
    async for lines in parts:
        yield lines


# How to write each kind of file, and its media type.
WRITERS: dict[str, tuple[Callable[[AsyncIterator[str]], AsyncIterator[str | bytes]], str]] = {
    "csv": (as_csv, "text/csv"),
    "xlsx": (as_xlsx, XLSX),
    "json": (as_json, "application/json"),
    "jsonl": (as_json_lines, "application/jsonl"),
}


def _csv_of(lines: str) -> str:
    return csv_lines(record.values() for record in _records(lines))


def _add(workbook: Workbook, lines: str) -> None:
    workbook.add([_cell(field, value) for field, value in record.items()] for record in _records(lines))


def _cell(field: str, value: object) -> Cell:
    match value:
        case list():
            return " ".join(value)
        case str() if field in INSTANTS:
            return datetime.fromisoformat(value)
        case str() | int():
            return value
        case _:
            return None


def _records(lines: str) -> list[dict[str, Any]]:
    """The records, whose fields are in the order of FIELDS."""
    found: list[dict[str, Any]] = json.loads(f"[{_joined(lines, ',')}]")
    return found


def _joined(lines: str, separator: str) -> str:
    """The lines with another separator: in JSON, text contains no line ends."""
    return lines.removesuffix("\n").replace("\n", separator)
