"""The time of searches by words in a large table, and which companies they find: `python -m benchmarks.search --help`.

The table has invented companies and the 500 real ones of the tests. Searches are those of `distortion`, and of common
words, phone numbers and IDs; each is one page by relevance, through the service's code and one connection.
"""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

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
MOST_SECONDS, LEAST_FOUND = 0.050, 0.95
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


async def searched(browsing: BrowsingService, typed: str) -> tuple[list[str], float]:
    """The names on the first page, and the seconds that it took."""
    begun = time.perf_counter()
    found = await browsing.page(Selection(words=typed, order=Order.RELEVANCE), limit=20)
    return [each.company_name for each in found.candidates], time.perf_counter() - begun


async def measure(server_url: str, rows: int) -> list[str]:
    """Fill a new database and measure; return a Markdown table."""
    async with connected(server_url) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {DATABASE}")
    url = urlsplit(server_url)._replace(path=f"/{DATABASE}").geturl()
    await asyncio.to_thread(migrations.upgrade, url)
    await fill(url, rows)
    database = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1)
    lines = await report(BrowsingService(database))
    await database.close()
    return lines


async def report(browsing: BrowsingService) -> list[str]:
    """Search, and describe it."""
    queries = distorted(real_companies(), QUERIES, seed=1)
    for _, typed in queries[:20]:  # statements are prepared, and blocks cached
        await searched(browsing, typed)
    times, found = [], 0
    for name, typed in queries:
        names, seconds = await searched(browsing, typed)
        times.append(seconds)
        found += name in names[:FIRST]
    lines = [
        "| search | p50, ms | p95, ms | most, ms |",
        "|---|--:|--:|--:|",
        _line(f"{QUERIES} distorted names", times),
    ]
    lines += [
        _line(f"`{typed}`", [(await searched(browsing, typed))[1] for _ in range(20)]) for typed in OTHER_SEARCHES
    ]
    return [
        *lines,
        "",
        f"The company is among the first {FIRST} for {found / len(queries):.1%} of the distorted names.",
    ]


def _line(name: str, times: Sequence[float]) -> str:
    values: Iterable[Any] = (median(times), quantiles(times, n=20)[-1], max(times))
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
