"""Reads a file in a process of its own: from standard input to lines of JSON on standard output.

Why a process: reading takes seconds of processor time, in which Python would delay every request, and a hostile file
can at most end this process, whose memory and time are limited. The first line describes the file; each other line
has the rows of one part; the last one counts them. A line `refused` says why the file cannot be read.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from provider_registration.imports.csv_files import open_csv
from provider_registration.imports.headings import is_heading, unique_headings
from provider_registration.imports.limits import (
    MAX_COLUMNS,
    MAX_FILE_BYTES,
    MAX_MEMORY_BYTES,
    MAX_PROCESSOR_SECONDS,
    MAX_ROW_LENGTH,
    MAX_ROWS,
    MAX_TEXT_LENGTH,
    ROWS_STORED,
    TEXT_STORED,
    Unreadable,
)
from provider_registration.imports.workbooks import Workbook

ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0"  # of .xls, and of workbooks with a password
ADDRESS = re.compile(r"""[^\s<>()\[\],;:"']{1,100}@[^\s<>()\[\],;:"'@]{1,255}""")
MAX_ADDRESSES = 10  # of one row


def main() -> None:
    """Read the file."""
    for limit, most in ((resource.RLIMIT_AS, MAX_MEMORY_BYTES), (resource.RLIMIT_CPU, MAX_PROCESSOR_SECONDS)):
        with suppress(ValueError, OSError):  # the operator has set a lower one
            resource.setrlimit(limit, (most, most))
    try:
        for line in read(sys.stdin.buffer.read(MAX_FILE_BYTES + 1)):
            _write(line)
    except Unreadable as error:
        _write({"refused": str(error)})
    except MemoryError:
        _write({"refused": "The file takes too much memory."})


def read(data: bytes) -> Iterator[Any]:
    """What the process writes for a file.

    Raises:
        Unreadable: the file cannot be read, or has no rows.
    """
    about: dict[str, Any]
    if data.startswith(OLE):
        raise Unreadable("Workbooks with a password, and .xls files, cannot be read. Save it as .xlsx or .csv.")
    if data.startswith(ZIP):
        workbook = Workbook(data)
        about, rows = {"format": "xlsx", "sheet": workbook.sheet}, workbook.rows()
    else:
        dialect, rows = open_csv(data, is_heading)
        about = {"format": "csv", "encoding": dialect.encoding, "separator": dialect.separator}
    rows = (row for row in map(_trimmed, rows) if row[1])
    _, heading = next(rows, (0, []))
    if len(heading) > MAX_COLUMNS:
        raise Unreadable(f"The file has more than {MAX_COLUMNS} columns.")
    columns = unique_headings(heading)
    yield about | {"columns": columns}
    position, length, part_ends = 0, 0, TEXT_STORED
    part: list[dict[str, Any]] = []
    for number, cells in rows:
        row_length = sum(map(len, cells))
        length += row_length
        position += 1
        _check(number, position, len(cells), row_length, length)
        part.append({"position": position, "row": number, "cells": cells, "addresses": _addresses_in(cells)})
        if len(part) == ROWS_STORED or length >= part_ends:
            yield part
            part, part_ends = [], length + TEXT_STORED
    if not position:
        raise Unreadable("The file has no rows below its headings.")
    if part:
        yield part
    yield {"rows": position}


def _trimmed(row: tuple[int, list[str]]) -> tuple[int, list[str]]:
    number, cells = row
    cells = [cell.strip() for cell in cells]
    while cells and not cells[-1]:
        cells.pop()
    return number, cells


def _check(number: int, position: int, columns: int, row_length: int, length: int) -> None:
    if position > MAX_ROWS:
        raise Unreadable(f"The file has more than {MAX_ROWS:,} rows.")
    if columns > MAX_COLUMNS:
        raise Unreadable(f"Row {number} has more than {MAX_COLUMNS} columns.")
    if row_length > MAX_ROW_LENGTH:
        raise Unreadable(f"Row {number} has more than {MAX_ROW_LENGTH:,} characters.")
    if length > MAX_TEXT_LENGTH:
        raise Unreadable("The file has too much text.")


def _addresses_in(cells: list[str]) -> str:
    """The canonical e-mail addresses in a row, one a line, so that erasure finds it."""
    found = [address for cell in cells if "@" in cell for address in ADDRESS.findall(cell)[:MAX_ADDRESSES]]
    return "\n".join(map(_canonical, found[:MAX_ADDRESSES]))


def _canonical(address: str) -> str:
    if address.isascii():
        return address.lower()
    from provider_registration.web.text import canonical_email  # noqa: PLC0415 - its imports take 0.3 s

    return canonical_email(address)


def _write(line: object) -> None:
    # Lone surrogates, which JSON could not carry in UTF-8, do not occur: both kinds of files are decoded strictly.
    sys.stdout.buffer.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


if __name__ == "__main__":
    main()
