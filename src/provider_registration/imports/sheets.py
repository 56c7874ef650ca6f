"""The texts and rows of a workbook (ECMA-376), collected while its XML is parsed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from math import isfinite

from provider_registration.imports.limits import (
    MAX_CELL_LENGTH,
    MAX_COLUMNS,
    MAX_NUMBER,
    MAX_SHARED_STRINGS,
    MAX_TEXT_LENGTH,
    Unreadable,
)

NOT_A_WORKBOOK = "The file is not a complete XLSX workbook."
ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
MAX_EXACT = 2**53  # integers up to here are exact as floating-point numbers

Attributes = dict[str, str]


class _Texts:
    """Collects the text of elements named `t`, without those of phonetic hints.

    `add`, and `start` and `end` of subclasses, are the handlers of an XML parser.
    """

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


class Strings(_Texts):
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


class Sheet(_Texts):
    """The rows of a sheet that have been parsed and not taken yet."""

    def __init__(self, strings: list[str], dates: list[bool], epoch: datetime) -> None:
        super().__init__()
        self._strings = strings
        self._dates = dates
        self._epoch = epoch
        self._last_day = (datetime.max - epoch).days  # noqa: DTZ901 - spreadsheets have no time zones
        self._rows_seen = 0
        self._rows: list[tuple[int, list[str]]] = []
        self._row: list[str] = []
        self._number = self._column = 0
        self._type = self._style = ""

    def take(self) -> list[tuple[int, list[str]]]:
        """The rows parsed since the last call: the number of each, and its cells as text."""
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
