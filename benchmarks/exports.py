"""What exporting a large table takes, and how the service responds meanwhile: `python -m benchmarks.exports --help`.

Each kind of file is downloaded over HTTP and kept, then read: every candidate must be in it once. Times depend on the
load of the machine; processor times hardly do.
"""

from __future__ import annotations

import asyncio
import csv
import http.client
import io
import json
import re
import shutil
import zipfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from benchmarks.__main__ import cluster, tell
from benchmarks.contenders import OURS, WORK
from benchmarks.database import make_databases, row_id, server_pid
from benchmarks.report import RESULTS, commit
from benchmarks.service import COLUMNS, Measured, Service, WrongResult, served

ROWS = 1_000_000
PREFIX = "bench_exports"  # of the database's name
WARM_UP = "trucks_min=40"  # selects one row in 40, as many as there are: up to a million, 25,000
MAX_GROWTH = 48_000_000  # bytes of memory during an export, whatever its length
PART = 1 << 20  # bytes read at a time
HEADER = f"| file | MB | seconds | rows/s | service CPU, s | PostgreSQL CPU, s | rows/s of PostgreSQL CPU | {COLUMNS} |"


@dataclass(frozen=True)
class Exported:
    """A measured export."""

    kind: str
    rows: int
    size: int  # bytes
    measured: Measured


def ids_of_csv(file: Path) -> Iterator[str]:
    """The IDs in a CSV file."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        for row in csv.DictReader(text):
            yield row["candidate_id"]


def ids_of_json_lines(file: Path) -> Iterator[str]:
    """The IDs in JSON Lines."""
    with file.open(encoding="utf-8") as text:
        for line in text:
            yield json.loads(line)["candidate_id"]


def ids_of_json(file: Path) -> Iterator[str]:
    """The IDs in a JSON array, which has one object a line."""
    with file.open(encoding="utf-8") as text:
        for line in text:
            if line.startswith("{"):
                yield json.loads(line.rstrip(",\n"))["candidate_id"]


def ids_of_workbook(file: Path) -> Iterator[str]:
    """The IDs in a workbook: the first cell of each row but the first. openpyxl would take minutes."""
    first_cell = re.compile(r"<row><c[^>]*><is><t[^>]*>([^<]+)")
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/"):
                with archive.open(name) as content:
                    found = _all_matches(first_cell, io.TextIOWrapper(content, encoding="utf-8"))
                    next(found)  # the heading
                    yield from found


def _all_matches(pattern: re.Pattern[str], text: io.TextIOWrapper) -> Iterator[str]:
    rest = ""
    while part := text.read(PART):
        whole, end, rest = (rest + part).rpartition("</row>")
        yield from pattern.findall(whole + end)


IDS: dict[str, Callable[[Path], Iterator[str]]] = {
    "csv": ids_of_csv,
    "jsonl": ids_of_json_lines,
    "json": ids_of_json,
    "xlsx": ids_of_workbook,
}


def download(service: Service, path: str, file: Path) -> None:
    """Download a file.

    Raises:
        WrongResult: the response is an error, or ends too early.
    """
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
    connection.request("GET", path, headers=service.authorization)
    response = connection.getresponse()
    if response.status != http.client.OK:
        raise WrongResult(f"{path}: {response.status}")
    try:
        with file.open("wb") as kept:
            shutil.copyfileobj(response, kept, PART)
    except http.client.HTTPException as error:
        raise WrongResult(f"{path} ended early: {error!r}") from error
    finally:
        connection.close()


def check(exported: Exported, file: Path, expected: set[UUID]) -> None:
    """Check an export.

    Raises:
        WrongResult: a candidate is missing or there twice, or the memory grew too much.
    """
    found = [UUID(each) for each in IDS[exported.kind](file)]
    if len(found) != len(expected) or set(found) != expected:
        raise WrongResult(
            f"{exported.kind} has {len(found)} rows with {len(set(found))} IDs; there are {len(expected)} candidates"
        )
    memory = exported.measured.memory
    if max(memory) - memory[0] > MAX_GROWTH:
        raise WrongResult(f"{exported.kind}: the memory grew by {(max(memory) - memory[0]) / 1e6:.0f} MB")


def measure(server_url: str, rows: int, prefix: str = PREFIX) -> list[str]:
    """Fill a new database and export it as each kind; return a Markdown table."""
    databases = asyncio.run(make_databases(server_url, rows, {OURS.name}, prefix))
    tell("the rows are there")
    database_pid = asyncio.run(server_pid(databases.urls[OURS.name]))
    expected = {row_id(number) for number in range(1, rows + 1)}
    lines = [HEADER, f"|---|{'--:|' * (HEADER.count('|') - 2)}"]
    with served(databases, database_pid, prefix) as service:
        for kind in IDS:
            file = WORK / f"{prefix}.{kind}"
            try:
                download(service, f"/candidates.{kind}?{WARM_UP}", file)
                with service.measuring() as measured:
                    download(service, f"/candidates.{kind}", file)
                exported = Exported(kind, rows, file.stat().st_size, measured)
                lines.append(_line(exported))
                tell(lines[-1])
                check(exported, file, expected)
            finally:
                file.unlink(missing_ok=True)
    return [*lines, "", f"In each file, every candidate is there once. Memory may grow by {MAX_GROWTH / 1e6:.0f} MB."]


def _line(one: Exported) -> str:
    measured = one.measured
    at_database = one.rows / measured.database_cpu if measured.database_cpu else 0
    return (
        f"| {one.kind} | {one.size / 1e6:.0f} | {measured.seconds:.1f} | {one.rows / measured.seconds:,.0f} "
        f"| {measured.service_cpu:.1f} | {measured.database_cpu:.1f} | {at_database:,.0f} | {measured.cells} |"
    )


def main() -> None:
    """Fill, export, report."""
    parser = ArgumentParser(prog="python -m benchmarks.exports", description="Measure exports of a large table.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--output", type=Path, default=RESULTS / "exports.md", help="file for the table")
    asked = parser.parse_args()
    with cluster() as server_url:
        lines = measure(server_url, asked.rows)
    told = [f"Exports of {asked.rows:,} candidates, at {commit()}.", "", *lines]
    asked.output.write_text("\n".join(told) + "\n")
    tell("\n".join(told))


if __name__ == "__main__":
    main()
