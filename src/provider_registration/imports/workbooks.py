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
from datetime import datetime
from xml.parsers import expat

from provider_registration.imports.limits import MAX_CELL_LENGTH, MAX_ENTRIES, MAX_TAG_BYTES, MAX_XML_BYTES, Unreadable
from provider_registration.imports.sheets import NOT_A_WORKBOOK, Attributes, Sheet, Strings

CHUNK = 64 * 1024
# What a damaged archive, an unknown compression, a password or malformed XML raise.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, expat.ExpatError, KeyError, OSError, EOFError, ValueError),
    *(RuntimeError, NotImplementedError),
)
# Numbers of built-in formats that show a date or a time (ECMA-376 part 1, section 18.8.30).
DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
NO_DATE = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')  # literals, colours and paddings in a format
DATE_LETTERS = re.compile("[dmyhs]", re.IGNORECASE)
EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 - spreadsheets have no time zones
EPOCH_OF_1904 = datetime(1904, 1, 1)  # noqa: DTZ001


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
        sheet = Sheet(self._strings, self._dates, self._epoch)
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
        strings = Strings()
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
