"""The time of searches by words in a large table, and which companies they find: `python -m benchmarks.search --help`.

Times depend on the load of the machine; processor time, of the service and of PostgreSQL together, hardly does.
The table has invented companies and the 500 real ones of the tests. Searches are those of `distortion`, and of common
words, phone numbers and IDs; each is one page by relevance, through the service's code and one connection.
"""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from sqlalchemy import text

from benchmarks.__main__ import cluster, tell
from benchmarks.database import connected
from benchmarks.distortion import distorted
from benchmarks.growth import PLAIN_INDEXES
from benchmarks.report import RESULTS, commit
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.matching import word_keys
from provider_registration.candidates.search_text import search_text
from provider_registration.candidates.selection import Order, Selection
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.local.demo_data import load_demo_data
from provider_registration.settings import DatabaseSettings

ROWS, QUERIES, FIRST = 1_000_000, 200, 5
DATABASE = "bench_search"
TESTS = Path(__file__).parents[1] / "tests"
OTHER_SEARCHES = ("fruit", "huerta", "example", "sl", "garcia", "obst gemuse", "frutas sol", "555 017", "valencia")

ADD_REAL = """
    INSERT INTO candidates (company_name, contact_email, contact_email_canonical, products, truck_count,
                            capacity_tons_per_day, search_text)
    VALUES ($1, $2::text, $2::text, '{apples}', 1, 1, $3)
"""
NAMES = "SELECT candidate_id, company_name FROM candidate_keys JOIN candidates ON id = candidate_id"
INDEXES_OF_KEYS = """
    SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
    FROM pg_index
    WHERE indrelid = 'candidate_keys'::regclass AND NOT indisunique
"""
FILL_KEYS = """
    UPDATE candidate_keys SET word_keys = made.word_keys, keys = '{}'
    FROM made WHERE made.candidate_id = candidate_keys.candidate_id
"""


def real_companies() -> list[str]:
    """The names of the tests."""
    files = (TESTS / "similar/companies.txt", TESTS / "candidates/companies.txt")
    return [name for file in files for name in file.read_text().splitlines() if name]


async def fill(url: str, rows: int) -> None:
    """Add the companies, and the keys of their names as the service computes them."""
    async with connected(url) as connection:
        indexes = [*await connection.fetch(PLAIN_INDEXES), *await connection.fetch(INDEXES_OF_KEYS)]
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        await load_demo_data(
            DatabaseSettings(_env_file=None, database_url=url).database_url, rows, seed=1, progress=lambda _: None
        )
        real = [(name, f"office@real-{number}.example") for number, name in enumerate(real_companies())]
        await connection.executemany(
            ADD_REAL, [(name, email, search_text(name, email, None, None)) for name, email in real]
        )
        tell("the rows are there")
        await connection.execute("CREATE TEMPORARY TABLE made (candidate_id uuid PRIMARY KEY, word_keys integer[])")
        names = await connection.fetch(NAMES)
        await connection.copy_records_to_table("made", records=((id_, word_keys(name)) for id_, name in names))
        await connection.execute(FILL_KEYS)
        for index in indexes:
            await connection.execute(index["definition"])
        await connection.execute("VACUUM ANALYZE candidates, candidate_keys")
        tell("the indexes are there")


@dataclass(frozen=True)
class Searched:
    """The names on the first page, and the seconds and the processor's seconds that it took."""

    names: list[str]
    seconds: float
    processor_seconds: float


async def searched(browsing: BrowsingService, typed: str, server_pid: int) -> Searched:
    """Search; the only connection is to the server's process with this ID."""
    begun, before = time.perf_counter(), processor_seconds(server_pid)
    found = await browsing.page(Selection(words=typed, order=Order.RELEVANCE), limit=20)
    seconds, used = time.perf_counter() - begun, processor_seconds(server_pid) - before
    return Searched([each.company_name for each in found.candidates], seconds, used)


def processor_seconds(server_pid: int) -> float:
    """Of this process and of one of the server's."""
    schedule = Path(f"/proc/{server_pid}/schedstat").read_text()  # nanoseconds
    return time.process_time() + int(schedule.split()[0]) / 1e9


async def measure(server_url: str, rows: int) -> list[str]:
    """Fill a new database and measure; return a Markdown table."""
    async with connected(server_url) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {DATABASE}")
    url = urlsplit(server_url)._replace(path=f"/{DATABASE}").geturl()
    await asyncio.to_thread(migrations.upgrade, url)
    await fill(url, rows)
    database = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1)
    async with database.statement() as session:
        server_pid = await session.scalar(text("SELECT pg_backend_pid()"))
    lines = await report(BrowsingService(database), server_pid)
    await database.close()
    return lines


async def report(browsing: BrowsingService, server_pid: int) -> list[str]:
    """Search, and describe it."""
    queries = distorted(real_companies(), QUERIES, seed=1)
    for _, typed in queries[:20]:  # statements are prepared, and blocks cached
        await searched(browsing, typed, server_pid)
    made = [(name, await searched(browsing, typed, server_pid)) for name, typed in queries]
    found = sum(name in one.names[:FIRST] for name, one in made)
    lines = [
        "| search | p50, ms | p95, ms | processor p50, ms | processor p95, ms |",
        "|---|--:|--:|--:|--:|",
        _line(f"{QUERIES} distorted names", [one for _, one in made]),
    ]
    lines += [
        _line(f"`{typed}`", [await searched(browsing, typed, server_pid) for _ in range(20)])
        for typed in OTHER_SEARCHES
    ]
    return [*lines, "", f"The company is among the first {FIRST} for {found / len(made):.1%} of the distorted names."]


def _line(name: str, some: Sequence[Searched]) -> str:
    times, used = [one.seconds for one in some], [one.processor_seconds for one in some]
    values = [value for each in (times, used) for value in (median(each), quantiles(each, n=20)[-1])]
    return f"| {name} | {' | '.join(f'{1000 * value:.1f}' for value in values)} |"


def main() -> None:
    """Fill, search, report."""
    parser = ArgumentParser(prog="python -m benchmarks.search", description="Measure searches in a large table.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--output", type=Path, default=RESULTS / "search.md", help="file for the table")
    asked = parser.parse_args()
    with cluster() as server_url:
        lines = asyncio.run(measure(server_url, asked.rows))
    told = [f"Searches among {asked.rows:,} companies, at {commit()}.", "", *lines]
    asked.output.write_text("\n".join(told) + "\n")
    tell("\n".join(told))


if __name__ == "__main__":
    main()
