"""Reads XLSX workbooks (ECMA-376) as a stream of rows: memory does not grow with the sheet.

python-calamine keeps a rectangle of all cells: 75 MB for 100,000 rows of seven columns, and a file of 7 KB with cells
in two corners of a sheet makes it request 550 GB and abort the process. This reader needs 12 MB and, for the texts
that a workbook shares between cells, up to 30 MB more; it is three times as slow.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from math import isfinite
from xml.parsers import expat

from provider_registration.imports.limits import (
    MAX_CELL_LENGTH,
    MAX_COLUMNS,
    MAX_ENTRIES,
    MAX_NUMBER,
    MAX_SHARED_STRINGS,
    MAX_TAG_BYTES,
    MAX_TEXT_LENGTH,
    MAX_XML_BYTES,
    Unreadable,
)

CHUNK = 64 * 1024
# What a damaged archive, an unknown compression, a password or malformed XML raise.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, expat.ExpatError, KeyError, OSError, EOFError, ValueError),
    *(RuntimeError, NotImplementedError),
)
NOT_A_WORKBOOK = "The file is not a complete XLSX workbook."
# Numbers of built-in formats that show a date or a time (ECMA-376 part 1, section 18.8.30).
DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
NO_DATE = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')  # literals, colours and paddings in a format
DATE_LETTERS = re.compile("[dmyhs]", re.IGNORECASE)
EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 - spreadsheets have no time zones
EPOCH_OF_1904 = datetime(1904, 1, 1)  # noqa: DTZ001
ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
MAX_EXACT = 2**53  # integers up to here are exact as floating-point numbers

Attributes = dict[str, str]


class Workbook:
    """A workbook: the name of its first visible sheet, and its rows."""

    def __init__(self, data: bytes) -> None:
        """Open it.

        Raises:
            Unreadable: it is damaged, or no workbook.
        """
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except DAMAGED:
            raise Unreadable(NOT_A_WORKBOOK) from None
        if len(self._archive.namelist()) > MAX_ENTRIES:
            raise Unreadable(f"The workbook has more than {MAX_ENTRIES:,} parts.")
        root = next((target for kind, target in self._relations("").values() if kind == "officeDocument"), None)
        if root is None:
            raise Unreadable(NOT_A_WORKBOOK)
        self.sheet, self._epoch = "", EPOCH
        self._sheet_id: str | None = None
        self._parse(root, start=self._see_workbook)
        parts = self._relations(root)
        if self._sheet_id is None or self._sheet_id not in parts:
            raise Unreadable("The workbook has no visible sheet.")
        self._path: str = parts[self._sheet_id][1]
        by_kind = dict(parts.values())
        self._dates: list[bool] = self._read_styles(by_kind.get("styles"))
        self._strings: list[str] = self._read_strings(by_kind.get("sharedStrings"))

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows that have cells, with their numbers in the sheet, from 1.

        Raises:
            Unreadable: the sheet is damaged, or has too much in one place.
        """
        sheet = _Sheet(self._strings, self._dates, self._epoch)
        for _ in self._parsing(self._path, start=sheet.start, end=sheet.end, text=sheet.add):
            yield from sheet.take()

    def _see_workbook(self, name: str, attributes: Attributes) -> None:
        if name == "workbookPr" and attributes.get("date1904") in ("1", "true"):
            self._epoch = EPOCH_OF_1904
        elif name == "sheet" and self._sheet_id is None and attributes.get("state", "visible") == "visible":
            self.sheet = attributes.get("name", "")[:100]
            self._sheet_id = next((value for key, value in attributes.items() if key.endswith(":id")), "")

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """What a part of the archive refers to: the kind and the path of each by its ID."""
        folder, name = posixpath.split(part)
        found: dict[str, tuple[str, str]] = {}

        def see(element: str, attributes: Attributes) -> None:
            if element == "Relationship" and attributes.get("TargetMode") != "External":
                target = posixpath.join("/", folder, attributes.get("Target", ""))
                kind = attributes.get("Type", "").rpartition("/")[2]
                found[attributes.get("Id", "")] = kind, posixpath.normpath(target).lstrip("/")

        self._parse(posixpath.join(folder, "_rels", f"{name}.rels"), start=see)
        return found

    def _read_styles(self, path: str | None) -> list[bool]:
        """Whether each cell format shows a date."""
        formats: dict[str, str] = {}
        dates: list[bool] = []
        inside = False

        def start(name: str, attributes: Attributes) -> None:
            nonlocal inside
            if name == "numFmt":
                formats[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")[:MAX_CELL_LENGTH]
            elif name == "cellXfs":
                inside = True
            elif name == "xf" and inside:
                number = attributes.get("numFmtId", "0")
                shown = DATE_LETTERS.search(NO_DATE.sub("", formats.get(number, "")))
                dates.append(shown is not None or (number.isdecimal() and int(number[:4]) in DATE_FORMATS))

        def end(name: str) -> None:
            nonlocal inside
            inside = inside and name != "cellXfs"

        if path is not None:
            self._parse(path, start=start, end=end)
        return dates

    def _read_strings(self, path: str | None) -> list[str]:
        strings = _Strings()
        if path is not None:
            self._parse(path, start=strings.start, end=strings.end, text=strings.add)
        return strings.found

    def _parse(
        self,
        path: str,
        *,
        start: Callable[[str, Attributes], None],
        end: Callable[[str], None] = lambda _name: None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        for _ in self._parsing(path, start=start, end=end, text=text):
            pass

    def _parsing(
        self,
        path: str,
        *,
        start: Callable[[str, Attributes], None],
        end: Callable[[str], None],
        text: Callable[[str], None] | None,
    ) -> Iterator[None]:
        """Parse a part of the archive, chunk by chunk; names come without their namespace's prefix."""
        parser = expat.ParserCreate()
        parser.buffer_text = True

        def see_root(name: str, attributes: Attributes) -> None:
            prefix = len(name) - len(name.rpartition(":")[2])  # the same for all elements, and empty in most files
            if prefix:
                parser.StartElementHandler = lambda name, attributes: start(name[prefix:], attributes)
                parser.EndElementHandler = lambda name: end(name[prefix:])
            else:
                parser.StartElementHandler, parser.EndElementHandler = start, end
            start(name[prefix:], attributes)

        parser.StartElementHandler = see_root
        parser.StartDoctypeDeclHandler = _refuse_doctype
        if text is not None:
            parser.CharacterDataHandler = text
        read = 0
        try:
            with self._archive.open(path) as part:
                while chunk := part.read(CHUNK):
                    read += len(chunk)
                    if read > MAX_XML_BYTES:
                        raise Unreadable(f"A part of the workbook has more than {MAX_XML_BYTES >> 20} MiB.")
                    parser.Parse(chunk, False)
                    if read - parser.CurrentByteIndex > MAX_TAG_BYTES:
                        raise Unreadable("The workbook has a tag or comment that is too long.")
                    yield
                parser.Parse(b"", True)
        except DAMAGED:
            raise Unreadable(NOT_A_WORKBOOK) from None
        yield


def _refuse_doctype(*_declaration: object) -> None:
    """Workbooks have none; entities that refer to others can grow without limit."""
    raise Unreadable("The workbook has a document type declaration.")


class _Texts:
    """Collects the text of elements named `t`, without those of phonetic hints."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._is_open = self._is_phonetic = False

    def add(self, text: str) -> None:
        if self._is_open:
            self._length += len(text)
            if self._length > MAX_CELL_LENGTH:
                raise Unreadable(f"A cell has more than {MAX_CELL_LENGTH:,} characters.")
            self._parts.append(text)

    def _take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        self._length = 0
        return ESCAPED.sub(_unescaped, text) if "_x" in text else text


def _unescaped(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character.isprintable() or character in "\t\r\n" else ""


class _Strings(_Texts):
    """The texts that a workbook shares between cells."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._total = 0

    def start(self, name: str, _attributes: Attributes) -> None:
        if name == "t":
            self._is_open = not self._is_phonetic
        elif name == "rPh":
            self._is_phonetic = True

    def end(self, name: str) -> None:
        if name == "t":
            self._is_open = False
        elif name == "rPh":
            self._is_phonetic = False
        elif name == "si":
            text = self._take()
            self._total += len(text)
            if len(self.found) >= MAX_SHARED_STRINGS or self._total > MAX_TEXT_LENGTH:
                raise Unreadable("The workbook has too much text.")
            self.found.append(text)


class _Sheet(_Texts):
    """The rows of a sheet that have been parsed and not taken yet."""

    def __init__(self, strings: list[str], dates: list[bool], epoch: datetime) -> None:
        super().__init__()
        self._strings = strings
        self._dates = dates
        self._epoch = epoch
        self._last_day = (datetime.max - epoch).days  # noqa: DTZ901 - as above
        self._rows_seen = 0
        self._rows: list[tuple[int, list[str]]] = []
        self._row: list[str] = []
        self._number = self._column = 0
        self._type = self._style = ""

    def take(self) -> list[tuple[int, list[str]]]:
        rows, self._rows = self._rows, []
        return rows

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "c":
            reference = attributes.get("r")
            self._column = _column_of(reference) if reference else self._column + 1
            self._type, self._style = attributes.get("t", "n"), attributes.get("s", "")
        elif name == "row":
            self._rows_seen += 1
            if self._rows_seen > MAX_NUMBER:
                raise Unreadable(f"The sheet has more than {MAX_NUMBER:,} rows, counting empty ones.")
            number = attributes.get("r", "")
            self._number = int(number) if number.isdecimal() and len(number) < len("10000000") else self._number + 1
            self._row, self._column = [], 0
        elif name in ("v", "t"):
            self._is_open = not self._is_phonetic
        elif name == "rPh":
            self._is_phonetic = True

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._is_open = False
        elif name == "rPh":
            self._is_phonetic = False
        elif name == "c":
            if value := self._value(self._take()):
                if self._column > MAX_COLUMNS:
                    raise Unreadable(f"Row {self._number} has more than {MAX_COLUMNS} columns.")
                self._row += [""] * (self._column - len(self._row))
                self._row[self._column - 1] = value
        elif name == "row" and self._row:
            self._rows.append((self._number, self._row))
            self._row = []

    def _value(self, text: str) -> str:
        match self._type:
            case "s":
                if not (text.isdecimal() and int(text) < len(self._strings)):
                    raise Unreadable(NOT_A_WORKBOOK)
                return self._strings[int(text)]
            case "n":
                return self._number_as_text(text)
            case "b":
                return "TRUE" if text == "1" else "FALSE"
        return text

    def _number_as_text(self, text: str) -> str:
        """A number as it would be typed: whole ones without a point or an exponent, dates in ISO 8601."""
        try:
            number = float(text)
        except ValueError:
            return text
        if self._style.isdecimal() and len(self._style) < len("100000") and int(self._style) < len(self._dates):
            is_date = self._dates[int(self._style)]
            if is_date and 0 <= number <= self._last_day:
                instant = self._epoch + timedelta(days=number)
                return str(instant.date() if number.is_integer() else instant.replace(microsecond=0))
        if isfinite(number) and number.is_integer() and abs(number) <= MAX_EXACT:
            return str(int(number))
        return repr(number)


def _column_of(reference: str) -> int:
    """The number of a column, from 1: that of `AB12` is 28."""
    column = 0
    for letter in reference[:4].upper():
        if not "A" <= letter <= "Z":
            break
        column = column * 26 + ord(letter) - ord("A") + 1
    if not column:
        raise Unreadable(NOT_A_WORKBOOK)
    return column
