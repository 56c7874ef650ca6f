"""What importing large files takes, and how the service responds meanwhile: `python -m benchmarks.imports --help`.

A CSV file and a workbook are sent to the service over HTTP, checked and registered; then the invalid rows are
corrected and sent again. Times depend on the load of the machine; processor times hardly do.
"""

from __future__ import annotations

import asyncio
import csv
import http.client
import io
import json
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import httpx

from benchmarks.__main__ import cluster, tell
from benchmarks.companies import Companies, as_csv, as_xlsx, companies
from benchmarks.contenders import OURS, WORK, Running, surroundings
from benchmarks.database import ADD_SESSIONS, Databases, add_admin, connected, server_pid
from benchmarks.processes import NO_TLS, usage
from benchmarks.report import RESULTS, commit
from provider_registration.db import migrations
from provider_registration.imports.failed import ERRORS, ROW

ROWS = 100_000
DATABASE = "bench_imports"
MEDIA_TYPES = {"csv": "text/csv", "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
LOOK_SECONDS = 0.1  # between two looks at a job
SAMPLE_SECONDS = 0.02  # between two requests for /health/live, and between two looks at the memory
NO_BILLING = "http://127.0.0.1:9"
UPLOAD, CHECK, REGISTER, AGAIN = "upload", "dry run", "import", "failed rows again"
HEADER = (
    "| file | step | seconds | service CPU, s | PostgreSQL CPU, s | memory before, MB | highest | after "
    "| live p50, ms | p99 | highest | loop occupied at most, ms of CPU | ms | times over 5 ms of CPU |"
)


class WrongResult(Exception):
    """The service did not do what it should; the message says what."""


@dataclass(frozen=True)
class Measured:
    """A step. `latencies`: of /health/live, in seconds. `loop`: as `watched` writes it."""

    file: str
    step: str
    seconds: float
    service_cpu: float
    database_cpu: float
    memory: list[int]
    latencies: list[float]
    loop: dict[str, float]


class Sampler(threading.Thread):
    """Requests /health/live and reads the memory of the service's process until it is stopped."""

    def __init__(self, url: str, pid: int) -> None:
        super().__init__(daemon=True)
        self.latencies: list[float] = []
        self.memory = [resident_bytes(pid)]
        self._address = urlsplit(url).netloc
        self._pid = pid
        self._stopping = threading.Event()

    def run(self) -> None:
        """Sample."""
        connection = http.client.HTTPConnection(self._address, timeout=60)
        while not self._stopping.wait(SAMPLE_SECONDS):
            begun = time.perf_counter()
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            self.latencies.append(time.perf_counter() - begun)
            self.memory.append(resident_bytes(self._pid))
        connection.close()

    def stop(self) -> None:
        """Stop, and take a last sample of the memory."""
        self._stopping.set()
        self.join()
        self.memory.append(resident_bytes(self._pid))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, without its children."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Importer:
    """An admin who imports files. `measured` grows with each step."""

    def __init__(self, running: Running, database_pid: int | None, watch: Path) -> None:
        self.measured: list[Measured] = []
        self._running = running
        self._pids = running.process.pid, database_pid
        self._watch = watch
        self._client = httpx.Client(base_url=running.url, trust_env=False, verify=NO_TLS, timeout=600)

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
        headers = self._authorization() | {"Content-Type": MEDIA_TYPES[kind]}
        response = self._client.post("/imports", content=content, headers=headers).raise_for_status()
        return str(response.json()["import_id"])

    def _work(self, import_id: str, *, is_dry: bool) -> dict[str, int]:
        """Start the import, wait for its job, and return its counts."""
        path = f"/imports/{import_id}"
        started = self._client.post(f"{path}/start", json={"dry_run": is_dry}, headers=self._authorization())
        job = f"/jobs/{started.raise_for_status().json()['job_id']}?limit=1"
        while self._get(job).json()["state"] != "done":
            time.sleep(LOOK_SECONDS)
        found = self._get(path).json()
        return {outcome: rows for outcome, rows in found["counts"].items() if rows}

    def _get(self, path: str) -> httpx.Response:
        return self._client.get(path, headers=self._authorization()).raise_for_status()

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._running.tokens()[0]}"}

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
        self._loop()  # begins anew
        sampler = Sampler(self._running.url, self._pids[0])
        before, begun = [usage(pid).cpu_seconds for pid in self._pids], time.perf_counter()
        sampler.start()
        try:
            yield
            seconds, after = time.perf_counter() - begun, [usage(pid).cpu_seconds for pid in self._pids]
        finally:
            sampler.stop()
        used = [late - early for early, late in zip(before, after, strict=True)]
        self.measured.append(Measured(file, step, seconds, *used, sampler.memory, sampler.latencies, self._loop()))
        tell(_line(self.measured[-1]))

    def _loop(self) -> dict[str, float]:
        self._watch.unlink(missing_ok=True)
        os.kill(self._running.process.pid, signal.SIGUSR2)
        while not self._watch.exists():
            time.sleep(SAMPLE_SECONDS)
        found: dict[str, float] = json.loads(self._watch.read_text())
        return found


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
    watch = WORK / f"{name}.json"
    command = [sys.executable, "-m", "benchmarks.watched", str(watch), "serve"]
    root = Path(__file__).parents[1]
    contender = replace(OURS, name="imports", command=lambda _: command, folder=root)
    running = contender.start(surroundings(databases, NO_BILLING, auth=True))
    importer = Importer(running, database_pid, watch)
    try:
        for kind in MEDIA_TYPES:
            importer.import_file(kind, companies(rows, kind))
    finally:
        importer.close()
        running.process.stop()
        watch.unlink(missing_ok=True)
    return report(importer.measured)


def report(measured: list[Measured]) -> list[str]:
    """The steps, and the sum of each file's first three."""
    lines = [HEADER, f"|---|---|{'--:|' * (HEADER.count('|') - 3)}", *map(_line, measured)]
    for kind in MEDIA_TYPES:
        steps = [one for one in measured if one.file == kind and one.step != AGAIN]
        seconds, cpu = sum(one.seconds for one in steps), sum(one.service_cpu for one in steps)
        lines += ["", f"{kind}: {seconds:.1f} s in all, {cpu:.1f} s of CPU of the service."]
    return lines


def _line(one: Measured) -> str:
    first, last, highest = (each / 1e6 for each in (one.memory[0], one.memory[-1], max(one.memory)))
    live = [1000 * each for each in one.latencies] or [0.0]
    p99 = quantiles(live, n=100, method="inclusive")[-1] if len(live) > 1 else live[0]
    loop = f"{1000 * one.loop['processor_seconds']:.1f} | {1000 * one.loop['seconds']:.0f} | {one.loop['long']}"
    return (
        f"| {one.file} | {one.step} | {one.seconds:.1f} | {one.service_cpu:.1f} | {one.database_cpu:.1f} "
        f"| {first:.0f} | {highest:.0f} | {last:.0f} | {median(live):.1f} | {p99:.1f} | {max(live):.0f} | {loop} |"
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
