"""The benchmark of exports runs, and finds rows that are missing and memory that grows."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks import exports

from ..conftest import drop_database  # noqa: TID252 - tests are no package that has a name

ROWS = 700

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="what a process used is read from /proc")


@pytest.fixture
async def prefix(server_url):
    prefix = f"test_{uuid4().hex}"
    yield prefix
    await drop_database(server_url, f"{prefix}_ours_{ROWS}")


async def test_every_kind_is_in_the_table(server_url, prefix):
    lines = await asyncio.to_thread(exports.measure, server_url, ROWS, prefix)

    rows = [line.split(" | ") for line in lines if line.startswith(tuple(f"| {kind}" for kind in exports.IDS))]
    assert [row[0].removeprefix("| ") for row in rows] == list(exports.IDS)
    assert all(len(row) == exports.HEADER.count(" | ") + 1 for row in rows)


@pytest.mark.parametrize(
    ("ids", "memory", "complaint"),
    [
        (["a", "b"], [0, 0], None),
        (["a"], [0, 0], "1 rows"),
        (["a", "b", "b"], [0, 0], "3 rows with 2 IDs"),
        (["a", "c"], [0, 0], "2 rows"),
        (["a", "b"], [0, exports.MAX_GROWTH + 1, 0], "memory grew"),
    ],
)
def test_a_wrong_export_fails_the_run(tmp_path, ids, memory, complaint):
    by_name = {name: uuid4() for name in "abc"}
    file = tmp_path / "file.jsonl"
    file.write_text("".join(f'{{"candidate_id":"{by_name[name]}"}}\n' for name in ids))
    exported = exports.Exported("jsonl", 2, 0, exports.Measured(memory=memory))

    with pytest.raises(exports.WrongResult, match=complaint) if complaint else nullcontext():
        exports.check(exported, file, {by_name["a"], by_name["b"]})
