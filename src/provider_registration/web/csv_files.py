"""CSV files that spreadsheets read without finding formulas in them."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

BYTE_ORDER_MARK = "\ufeff"  # without it, spreadsheets do not read UTF-8
# Spreadsheets read a cell that starts with such a character, of any width, as a formula (OWASP, CSV injection); an
# apostrophe makes it text. Where Excel separates cells by ; (most of Europe) or tab, it ignores our quotes: the text
# after a separator starts a cell there, and a separator at the end of a cell lets the next one start in it.
# Each pattern begins with a character to look for: trying every position takes ten times as long.
_FORMULA = r"""[\s"\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]"""
FORMULA_START = re.compile(_FORMULA)
FORMULA_INSIDE = re.compile(rf"([;|])(?={_FORMULA}|\Z)")
APOSTROPHE = re.compile(rf"'(?<![^;|]')(?={_FORMULA}|(?<=[;|]')\Z)")  # that was added
SEVERAL_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # and tabs; names contain neither


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Rows in RFC 4180's format, with every text as text."""
    text = io.StringIO()
    csv.writer(text).writerows([_neutral(value) for value in row] for row in rows)
    return text.getvalue()


async def csv_text(rows: Sequence[Iterable[object]]) -> str:
    """The same in a thread, so that the event loop stays free: hostile text takes 0.5 s for a million characters."""
    return await asyncio.to_thread(csv_lines, rows)


def instant(value: datetime) -> str:
    """A time in UTC, in ISO 8601."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def without_apostrophes(text: str) -> str:
    """The text of a cell without the apostrophes that `csv_lines` adds."""
    return APOSTROPHE.sub("", text)


def _neutral(value: object) -> object:
    if isinstance(value, list):
        value = " ".join(value)
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, str):
        text = FORMULA_INSIDE.sub(r"\1'", SEVERAL_LINES.sub(" ", value))
        return f"'{text}" if FORMULA_START.match(text) else text
    return value
