"""What importing large files takes, and how the service responds meanwhile: `python -m benchmarks.imports --help`.

A CSV file and a workbook are sent to the service over HTTP, checked and registered; then the invalid rows are
corrected and sent again. Times depend on the load of the machine; processor times hardly do.
"""

from __future__ import annotations

import asyncio
import csv
import io
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.__main__ import cluster, tell
from benchmarks.companies import Companies, as_csv, as_xlsx, companies
from benchmarks.contenders import OURS
from benchmarks.database import ADD_SESSIONS, Databases, add_admin, connected, server_pid
from benchmarks.processes import NO_TLS
from benchmarks.report import RESULTS, commit
from benchmarks.service import COLUMNS, Measured, Service, WrongResult, served
from provider_registration.db import migrations
from provider_registration.imports.failed import ERRORS, ROW

ROWS = 100_000
DATABASE = "bench_imports"
MEDIA_TYPES = {"csv": "text/csv", "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
LOOK_SECONDS = 0.1  # between two looks at a job
UPLOAD, CHECK, REGISTER, AGAIN = "upload", "dry run", "import", "failed rows again"
HEADER = f"| file | step | seconds | service CPU, s | PostgreSQL CPU, s | {COLUMNS} |"


@dataclass(frozen=True)
class Step:
    """A measured step with a file."""

    file: str
    name: str
    measured: Measured


class Importer:
    """An admin who imports files. `steps` grows with each."""

    def __init__(self, service: Service) -> None:
        self.steps: list[Step] = []
        self._service = service
        self._client = httpx.Client(base_url=service.url, trust_env=False, verify=NO_TLS, timeout=600)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def import_file(self, kind: str, made: Companies) -> None:
        """Send the companies, check and register them, then send the invalid rows again.

        Raises:
            WrongResult: a row has another outcome than it should.
        """
        content = as_csv(made.rows) if kind == "csv" else as_xlsx(made.rows)
        with self._measuring(kind, UPLOAD):
            import_id = self._send(kind, content)
        valid, invalid = len(made.rows) - len(made.corrected), len(made.corrected)
        with self._measuring(kind, CHECK):
            counts = self._work(import_id, is_dry=True)
        _expect(counts, {"valid": valid, "invalid": invalid})
        with self._measuring(kind, REGISTER):
            counts = self._work(import_id, is_dry=False)
        _expect(counts, {"registered": valid, "invalid": invalid})
        with self._measuring(kind, AGAIN):
            counts = self._work(self._send("csv", self._corrected(import_id, made)), is_dry=False)
        _expect(counts, {"registered": invalid})

    def _send(self, kind: str, content: bytes) -> str:
        headers = self._service.authorization | {"Content-Type": MEDIA_TYPES[kind]}
        response = self._client.post("/imports", content=content, headers=headers).raise_for_status()
        return str(response.json()["import_id"])

    def _work(self, import_id: str, *, is_dry: bool) -> dict[str, int]:
        """Start the import, wait for its job, and return its counts."""
        path = f"/imports/{import_id}"
        started = self._client.post(f"{path}/start", json={"dry_run": is_dry}, headers=self._service.authorization)
        job = f"/jobs/{started.raise_for_status().json()['job_id']}?limit=1"
        while self._get(job).json()["state"] != "done":
            time.sleep(LOOK_SECONDS)
        found = self._get(path).json()
        return {outcome: rows for outcome, rows in found["counts"].items() if rows}

    def _get(self, path: str) -> httpx.Response:
        return self._client.get(path, headers=self._service.authorization).raise_for_status()

    def _corrected(self, import_id: str, made: Companies) -> bytes:
        """The file of invalid rows with corrected cells."""
        head, *rows = csv.reader(io.StringIO(self._get(f"/imports/{import_id}/failed.csv").text.removeprefix("\ufeff")))
        number, errors = head.index(ROW), head.index(ERRORS)
        found = [int(row[number]) for row in rows]
        if found != sorted(made.corrected) or not all(row[errors] for row in rows):
            raise WrongResult(f"failed.csv has {len(found)} rows; there are {len(made.corrected)} faulty ones")
        text = io.StringIO(newline="")
        cells = ([*made.corrected[int(row[number])], row[number], row[errors]] for row in rows)
        csv.writer(text).writerows([head, *cells])
        return text.getvalue().encode()

    @contextmanager
    def _measuring(self, file: str, step: str) -> Iterator[None]:
        with self._service.measuring() as measured:
            yield
        self.steps.append(Step(file, step, measured))
        tell(_line(self.steps[-1]))


def _expect(counts: dict[str, int], expected: dict[str, int]) -> None:
    if counts != {outcome: rows for outcome, rows in expected.items() if rows}:
        raise WrongResult(f"the outcomes are {counts}, not {expected}")


async def _prepare(server_url: str, name: str) -> tuple[Databases, int | None]:
    """A new database with an admin, and the server's process."""
    async with connected(server_url) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {name}")
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    await asyncio.to_thread(migrations.upgrade, url)
    admin_id = await add_admin(url)
    async with connected(url) as connection:
        added = await connection.fetch(ADD_SESSIONS, admin_id, 1)
    databases = Databases(0, {OURS.database: url}, admin_id, [record["id"] for record in added])
    return databases, await server_pid(url)


def measure(server_url: str, rows: int, name: str = DATABASE) -> list[str]:
    """Import both files into a new database; return a Markdown table."""
    databases, database_pid = asyncio.run(_prepare(server_url, name))
    with served(databases, database_pid, "imports") as service:
        importer = Importer(service)
        try:
            for kind in MEDIA_TYPES:
                importer.import_file(kind, companies(rows, kind))
        finally:
            importer.close()
    return report(importer.steps)


def report(steps: list[Step]) -> list[str]:
    """The steps, and the sum of each file's first three."""
    lines = [HEADER, f"|---|---|{'--:|' * (HEADER.count('|') - 3)}", *map(_line, steps)]
    for kind in MEDIA_TYPES:
        of_file = [one.measured for one in steps if one.file == kind and one.name != AGAIN]
        seconds, cpu = sum(one.seconds for one in of_file), sum(one.service_cpu for one in of_file)
        lines += ["", f"{kind}: {seconds:.1f} s in all, {cpu:.1f} s of CPU of the service."]
    return lines


def _line(step: Step) -> str:
    one = step.measured
    return (
        f"| {step.file} | {step.name} | {one.seconds:.1f} | {one.service_cpu:.1f} | {one.database_cpu:.1f} "
        f"| {one.cells} |"
    )


def main() -> None:
    """Import, report."""
    parser = ArgumentParser(prog="python -m benchmarks.imports", description="Measure imports of large files.")
    parser.add_argument("--rows", type=int, default=ROWS, help="of each file")
    parser.add_argument("--output", type=Path, default=RESULTS / "imports.md", help="file for the table")
    asked = parser.parse_args()
    with cluster() as server_url:
        lines = measure(server_url, asked.rows)
    told = [f"Imports of {asked.rows:,} companies each, at {commit()}.", "", *lines]
    asked.output.write_text("\n".join(told) + "\n")
    tell("\n".join(told))


if __name__ == "__main__":
    main()
