"""The benchmark of imports runs, and every row has the outcome that it should."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks import imports
from benchmarks.companies import companies

from ..conftest import drop_database  # noqa: TID252 - tests are no package that has a name

ROWS = 900

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="what a process used is read from /proc")


@pytest.fixture
async def database_name(server_url):
    name = f"test_{uuid4().hex}"
    yield name
    await drop_database(server_url, name)


async def test_both_files_are_imported_and_every_step_is_in_the_table(server_url, database_name):
    lines = await asyncio.to_thread(imports.measure, server_url, ROWS, database_name)

    rows = [line.split(" | ") for line in lines if line.startswith(("| csv", "| xlsx"))]
    steps = [imports.UPLOAD, imports.CHECK, imports.REGISTER, imports.AGAIN]
    assert [(row[0].removeprefix("| "), row[1]) for row in rows] == [(f, s) for f in ("csv", "xlsx") for s in steps]
    assert all(len(row) == imports.HEADER.count(" | ") + 1 for row in rows)
    assert len(companies(ROWS, "csv").corrected) == ROWS * 0.02


async def test_another_outcome_fails_the_run(server_url, database_name, monkeypatch):
    monkeypatch.setattr(imports, "companies", lambda count, mark: companies(count, "same"))

    with pytest.raises(imports.WrongResult, match="already_registered"):
        await asyncio.to_thread(imports.measure, server_url, 40, database_name)
