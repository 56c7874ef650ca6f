"""Reads CSV files as spreadsheets write them: encoding and separator are found from the content."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provider_registration.imports.limits import MAX_CELL_LENGTH, MAX_NUMBER, MAX_ROW_LENGTH, Unreadable

BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
SEPARATORS = (",", ";", "\t", "|")
SAMPLE_BYTES = 64 * 1024
SAMPLE_ROWS = 30
MAX_LINE_LENGTH = 4 * MAX_ROW_LENGTH  # with quotes and empty cells
NUL_SHARE = 0.2  # of the bytes: in UTF-16, every second byte of Latin text


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written."""

    encoding: str
    separator: str


def open_csv(data: bytes, is_heading: Callable[[str], bool]) -> tuple[Dialect, Iterator[tuple[int, list[str]]]]:
    """The dialect of a file, and its rows with their numbers, from 1. `is_heading`: whether a text names a field.

    Raises:
        Unreadable: it is not text, or has too much in one place.
    """
    encoding = _encoding_of(data)
    skipped, separator = _named_separator(data, encoding)
    if separator is None:
        separator = _separator_of(data, encoding, is_heading)
    return Dialect(encoding.removesuffix("-sig"), separator), _rows(data, encoding, separator, skipped)


def _encoding_of(data: bytes) -> str:
    marked = (encoding for mark, encoding in BYTE_ORDER_MARKS.items() if data.startswith(mark))
    encoding = next(marked, None) or _encoding_without_mark(data)
    decoder = io.TextIOWrapper(io.BytesIO(data), encoding, newline="")
    try:
        while text := decoder.read(SAMPLE_BYTES):
            if "\0" in text:
                raise Unreadable("The file is not text: it has NUL characters.")
    except UnicodeError:
        raise Unreadable(f"The file is not text in {encoding.removesuffix('-sig').upper()}.") from None
    return encoding


def _encoding_without_mark(data: bytes) -> str:
    sample = data[:SAMPLE_BYTES]
    if sample.count(0) > NUL_SHARE * len(sample):
        return "utf-16-be" if sample[::2].count(0) > sample[1::2].count(0) else "utf-16-le"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "cp1252"  # of Excel in Western Europe and America, where it does not write UTF-8
    return "utf-8"


def _named_separator(data: bytes, encoding: str) -> tuple[int, str | None]:
    """The separator that a first line `sep=;` names, as Excel understands it, and how many lines that takes."""
    first = io.TextIOWrapper(io.BytesIO(data), encoding).readline(MAX_LINE_LENGTH).rstrip("\r\n")
    name, is_named, separator = first.strip('"').partition("=")
    if is_named and name.lower() == "sep" and separator in SEPARATORS:
        return 1, separator
    return 0, None


def _separator_of(data: bytes, encoding: str, is_heading: Callable[[str], bool]) -> str:
    """The separator whose first row has most known headings and whose rows most often have as many cells as it."""

    def quality(separator: str) -> tuple[int, float, int]:
        rows = []
        try:
            for _, row in _rows(data, encoding, separator, skipped=0):
                if any(row):
                    rows.append(row)
                if len(rows) == SAMPLE_ROWS:
                    break
        except Unreadable:  # found again, and reported, if the other separators are not better
            if not rows:
                return (-1, 0.0, 0)
        if not rows:
            return (-1, 0.0, 0)
        counted = Counter(len(row) for row in rows)
        return sum(map(is_heading, rows[0])), counted[len(rows[0])] / len(rows), len(rows[0])

    return max(SEPARATORS, key=quality)


def _rows(data: bytes, encoding: str, separator: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_CELL_LENGTH)
    text = io.TextIOWrapper(io.BytesIO(data), encoding, newline="")
    number = 0
    rows = csv.reader(_lines(text), delimiter=separator, strict=False)
    while True:
        number += 1
        if number > MAX_NUMBER:
            raise Unreadable(f"The file has more than {MAX_NUMBER:,} rows, counting empty ones.")
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            raise Unreadable(
                f"Row {number} has a cell of more than {MAX_CELL_LENGTH:,} characters; "
                "perhaps a quotation mark is not closed."
            ) from None
        if number > skipped:
            yield number, row


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE_LENGTH):
        if len(line) == MAX_LINE_LENGTH:
            raise Unreadable(f"A line is longer than {MAX_LINE_LENGTH:,} characters.")
        yield line
