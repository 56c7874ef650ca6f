"""Exports of candidates, streamed: a million rows need no more memory than ten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from operator import attrgetter
from typing import cast

from provider_registration.candidates.company import FACTS
from provider_registration.candidates.models import Candidate, Status
from provider_registration.web.csv_files import BYTE_ORDER_MARK, csv_lines, csv_text, instant
from provider_registration.web.workbooks import MEDIA_TYPE as XLSX
from provider_registration.web.workbooks import Cell, Workbook

CHUNK = 200  # candidates written at a time
# The columns of an export, in order, and the value of each for a candidate.
FIELDS: dict[str, Callable[[Candidate], object]] = {
    "candidate_id": lambda candidate: str(candidate.candidate_id),
    "status": lambda candidate: str(candidate.status),
    **{fact: attrgetter(fact) for fact in FACTS},
    "created_at": attrgetter("created_at"),
    "decided_at": lambda candidate: None if candidate.status is Status.PENDING else candidate.updated_at,
    "provider_id": attrgetter("provider_id"),
    "rejection_reason": attrgetter("rejection_reason"),
}


async def as_csv(candidates: AsyncIterator[Candidate]) -> AsyncIterator[str]:
    """RFC 4180 with a header line, in UTF-8 with the byte order mark that spreadsheets need."""
    yield BYTE_ORDER_MARK + csv_lines([FIELDS])
    async for some in _chunks(candidates):
        yield await csv_text([_values(candidate) for candidate in some])


async def as_xlsx(candidates: AsyncIterator[Candidate]) -> AsyncIterator[bytes]:
    """A workbook with text cells as text; compressed in a thread, so that the event loop stays free."""
    workbook = Workbook("Candidates", tuple(FIELDS))
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
        records = [dict(zip(FIELDS, _values(candidate), strict=True)) for candidate in some]
        yield separator + ",\n".join(json.dumps(each, ensure_ascii=False, default=instant) for each in records)
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


async def as_json_lines(candidates: AsyncIterator[Candidate]) -> AsyncIterator[str]:
    """One object a line, for programs that read a file piece by piece."""
    async for some in _chunks(candidates):
        records = [dict(zip(FIELDS, _values(candidate), strict=True)) for candidate in some]
        yield "".join(json.dumps(each, ensure_ascii=False, default=instant) + "\n" for each in records)


# How to write each kind of file, and its media type.
WRITERS: dict[str, tuple[Callable[[AsyncIterator[Candidate]], AsyncIterator[str | bytes]], str]] = {
    "csv": (as_csv, "text/csv"),
    "xlsx": (as_xlsx, XLSX),
    "json": (as_json, "application/json"),
    "jsonl": (as_json_lines, "application/jsonl"),
}


def _values(candidate: Candidate) -> list[object]:
    return [value_of(candidate) for value_of in FIELDS.values()]


def _row(candidate: Candidate) -> list[Cell]:
    return [cast("Cell", " ".join(value) if isinstance(value, list) else value) for value in _values(candidate)]


async def _chunks(candidates: AsyncIterator[Candidate]) -> AsyncIterator[list[Candidate]]:
    some: list[Candidate] = []
    async for candidate in candidates:
        some.append(candidate)
        if len(some) == CHUNK:
            yield some
            some = []
    if some:
        yield some
