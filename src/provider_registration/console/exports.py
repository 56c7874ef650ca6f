"""Exports of candidates, streamed: a million rows need no more memory than ten."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import cast

from provider_registration.candidates.company import FACTS
from provider_registration.candidates.models import Candidate
from provider_registration.console.workbooks import Cell, Workbook

CHUNK = 200  # candidates written at a time
# Spreadsheets read a cell that starts so, in either width, as a formula (OWASP, CSV injection); an apostrophe makes it
# text. Where Excel separates cells by ; (most of Europe) or a tab, it ignores our quotes and splits cells: the text
# after a separator starts a cell there, and a separator at the end of a cell lets the next one start in it.
FORMULA_START = re.compile(r"""(^|[;|])(?=[\s"\ufeff]*(?:[=+\-@\uff1d\uff0b\uff0d\uff20]|(?<=[;|])\Z))""")
SEVERAL_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # and tabs; names contain neither
FIELDS = ("candidate_id", "status", *FACTS, "created_at", "decided_at", "provider_id", "rejection_reason")


async def as_csv(candidates: AsyncIterator[Candidate]) -> AsyncIterator[str]:
    """RFC 4180 with a header line, in UTF-8 with the byte order mark that spreadsheets need."""
    yield "\ufeff" + _csv([FIELDS])
    async for some in _chunks(candidates):
        yield _csv([_neutral(value) for value in _record(candidate).values()] for candidate in some)


async def as_xlsx(candidates: AsyncIterator[Candidate]) -> AsyncIterator[bytes]:
    """A workbook with text cells as text; compressed in a thread, which keeps the event loop free."""
    workbook = Workbook("Candidates", FIELDS)
    async for some in _chunks(candidates):
        await asyncio.to_thread(workbook.add, [_row(candidate) for candidate in some])
        if part := workbook.take():
            yield part
    await asyncio.to_thread(workbook.close)
    yield workbook.take()


async def as_json(candidates: AsyncIterator[Candidate]) -> AsyncIterator[str]:
    """One array of objects."""
    separator = "[\n"
    async for some in _chunks(candidates):
        yield separator + ",\n".join(json.dumps(_record(candidate), ensure_ascii=False) for candidate in some)
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _record(candidate: Candidate) -> dict[str, object]:
    return {
        "candidate_id": str(candidate.candidate_id),
        "status": str(candidate.status),
        **{fact: getattr(candidate, fact) for fact in FACTS},
        "products": [str(product) for product in candidate.products],
        "created_at": _instant(candidate.created_at),
        "decided_at": None if candidate.status == "pending" else _instant(candidate.updated_at),
        "provider_id": candidate.provider_id,
        "rejection_reason": candidate.rejection_reason,
    }


def _row(candidate: Candidate) -> list[Cell]:
    record = _record(candidate) | {
        "products": " ".join(candidate.products),
        "created_at": candidate.created_at,
        "decided_at": None if candidate.status == "pending" else candidate.updated_at,
    }
    return [cast("Cell", value) for value in record.values()]


def _neutral(value: object) -> object:
    if isinstance(value, list):
        value = " ".join(value)
    if isinstance(value, str):
        return FORMULA_START.sub(r"\1'", SEVERAL_LINES.sub(" ", value))
    return value


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


async def _chunks(candidates: AsyncIterator[Candidate]) -> AsyncIterator[list[Candidate]]:
    some: list[Candidate] = []
    async for candidate in candidates:
        some.append(candidate)
        if len(some) == CHUNK:
            yield some
            some = []
    if some:
        yield some
