"""The cost of statements as the table grows, in blocks that PostgreSQL reads: `python -m benchmarks.growth --help`.

Blocks do not depend on the load of the machine. A statement may take LIMIT times as many as in the smallest table
and SLACK more, for another level of each index. A page or the products of a week, which are 21 rows or more, each
looked up, may take PAGE_SLACK more; a page that also counts matching rows, one block more for every ROWS_A_BLOCK of
the MAX_TOTAL that it counts at most. What triggers read when a statement ends is not in a plan; they touch the counts,
whose number does not depend on the table's size.
"""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import statements, writes
from benchmarks.__main__ import cluster, tell
from benchmarks.database import PERIOD, add_admin, connected, fill, places_at, row_id
from benchmarks.report import RESULTS, commit
from benchmarks.statements import blocks
from benchmarks.writes import PENDING_IDS, Beside, Logged
from provider_registration.candidates.list_queries import MAX_TOTAL
from provider_registration.candidates.selection import Order
from provider_registration.db import migrations
from provider_registration.statistics.models import Grouping

SIZES = (100_000, 1_000_000, 10_000_000)
LIMIT = 1.2  # times as many blocks as in the smallest table
SLACK, PAGE_SLACK = 8, 30  # blocks more
ROWS_A_BLOCK = 40
BATCH = 500_000  # rows a statement that fills
TRIES = 9  # ids or places, of which the median counts
DEPTH = 0.9
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ORDERS = [order for order in Order if order is not Order.RELEVANCE]
MOST_TONS, MOST_TRUCKS = 309, 40  # of the rows
COUNTING = "page of a common number of trucks"  # half of the rows: it counts as many as it may
DATABASE = "bench_growth"
STATISTICS = "032_statistics"  # the migration that counts candidates
LOG_HEAD = (
    "Bytes that a statement and its triggers write to PostgreSQL's log, and after the plus sign the images of pages "
    "that nothing else has changed since a checkpoint:"
)
BESIDE_HEAD = (
    f"{writes.WRITES:,} writes, half registrations and half rejections, over one connection, without and with another "
    "session's older snapshot:"
)

# Indexes that are cheaper to build once than to maintain while millions of rows are added.
PLAIN_INDEXES = """
    SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
    FROM pg_index
    WHERE indrelid = 'candidates'::regclass AND NOT indisunique
"""


async def grow(connection: Any, url: str, first: int, last: int) -> None:
    """Add rows number `first` to `last`, a fixed time apart, so that earlier rows stay what they were."""
    step, begun = PERIOD / SIZES[-1], datetime.now(UTC) - PERIOD
    indexes = await connection.fetch(PLAIN_INDEXES)
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    for start in range(first, last + 1, BATCH):
        await fill(connection, start, min(start + BATCH - 1, last), begun=begun, step=step, analyze=False)
    for index in indexes:
        await connection.execute(index["definition"])
    await connection.execute("TRUNCATE event_queue")  # what follows counts all candidates as ones without an event
    await connection.execute("TRUNCATE daily_statistics, daily_backlogs")
    await connection.execute("UPDATE statistics_progress SET backfilled_to = NULL, is_ready = false")
    await asyncio.to_thread(count_statistics, url)
    await connection.execute("VACUUM ANALYZE")


def count_statistics(url: str) -> None:
    """Count the candidates as the migration does."""
    script = ScriptDirectory.from_config(Config(migrations.find_config())).get_revision(STATISTICS)
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"), isolation_level="AUTOCOMMIT")

    async def count() -> None:
        async with engine.connect() as connection:
            await connection.run_sync(script.module.count_existing)
        await engine.dispose()

    asyncio.run(count())


async def costs(connection: Any, url: str, rows: int) -> dict[str, float]:
    """Median blocks of each statement in a table of this size."""
    rng = Random(rows)  # noqa: S311 - no secret
    numbers = [rng.randint(1, rows) for _ in range(TRIES)]
    pending = [await connection.fetchval(PENDING_IDS, row_id(number)) for number in numbers]
    places = (await places_at(url, int(DEPTH * rows), TRIES))[:TRIES]

    async def of(make: Callable[[int], tuple[Any, dict[str, Any]]]) -> float:
        await blocks(connection, *make(0))  # this connection reads the catalogue once
        return median([await blocks(connection, *make(number)) for number in range(TRIES)])

    page, matches = statements.page, statements.matches
    begun = await connection.fetchval("SELECT min(created_at) FROM candidates")
    last = await connection.fetchval("SELECT max(updated_at) FROM candidates")
    email = f"office@company-{numbers[0]}.example"
    first_day = begun.date()
    week = (first_day, first_day + timedelta(days=6))  # which has the same candidates in every table
    return {
        "get": await of(lambda n: statements.get(row_id(numbers[n]))),
        "register": await of(lambda n: statements.register(f"growth-{n}@example.com")),
        "approve: UPDATE": await of(lambda n: statements.approve(pending[n])),
        "reject: UPDATE": await of(lambda n: statements.reject(pending[n])),
        "first page": await of(lambda _: page()),
        "deep page by cursor": await of(lambda n: page(place=places[n])),
        "page of a status": await of(lambda _: page(status="pending")),
        "page of a common product": await of(lambda _: page(product="apples")),
        "page of a rare product": await of(lambda _: page(product="mangoes")),
        "deep page of a common product": await of(lambda n: page(product="apples", place=places[n])),
        "statistics of a week": await of(lambda _: statements.statistics(*week)),
        "statistics of a week by product": await of(lambda _: statements.statistics(*week, by=Grouping.PRODUCT)),
        "backlog of a week": await of(lambda _: statements.backlog(*week)),
        **{f"page by {order}": await of(lambda _, order=order: statements.page_by(order)) for order in ORDERS},
        "page registered in an hour": await of(lambda _: matches(registered_from=begun, registered_to=begun + HOUR)),
        "page decided in an hour": await of(
            lambda _: matches(decided_from=begun + 4 * DAY, decided_to=begun + 4 * DAY + HOUR)
        ),
        "page changed in the last hour": await of(lambda _: matches(updated_since=last - HOUR)),
        "page of a rare capacity": await of(lambda _: matches(capacity_min=MOST_TONS + 1)),
        "page of few trucks and a rare capacity": await of(lambda _: matches(trucks_max=5, capacity_min=MOST_TONS + 1)),
        "page of a rare number of trucks": await of(lambda _: matches(trucks_min=MOST_TRUCKS + 1)),
        COUNTING: await of(lambda _: matches(trucks_min=MOST_TRUCKS // 2)),
        "page of a decider": await of(lambda n: matches(decided_by=row_id(numbers[n]))),
        "page of an e-mail address": await of(lambda _: matches(contact_email=email)),
    }


@dataclass
class Growth:
    """What was measured: at each size, and last without and with an old snapshot."""

    blocks: dict[int, dict[str, float]] = field(default_factory=dict)
    log: dict[int, dict[str, Logged]] = field(default_factory=dict)
    beside: list[Beside] = field(default_factory=list)


async def measure(
    server_url: str, sizes: list[int], database: str = DATABASE, *, beside: int = writes.WRITES
) -> Growth:
    """The costs at each size, in a new database of this name; `beside`: this many writes beside an old snapshot."""
    async with connected(server_url) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {database}")
    url = urlsplit(server_url)._replace(path=f"/{database}").geturl()
    await asyncio.to_thread(migrations.upgrade, url)
    user_id = await add_admin(url)
    found, before = Growth(), 0
    async with connected(url) as connection:
        for size in sizes:
            begun = time.monotonic()
            await grow(connection, url, before + 1, size)
            tell(f"{size:,} rows are there, after {time.monotonic() - begun:.0f} s")
            found.blocks[size] = await costs(connection, url, size)
            found.log[size] = await writes.log_costs(connection, size, user_id)
            before = size
    found.beside = [await writes.beside_snapshot(url, is_held=held, writes=beside) for held in (False, True)]
    return found


def slack(name: str) -> float:
    """How many blocks more than LIMIT times as many the statement may read."""
    if name == COUNTING:
        return PAGE_SLACK + MAX_TOTAL / ROWS_A_BLOCK
    return PAGE_SLACK if "page" in name or "product" in name else SLACK


def table(found: dict[int, dict[str, float]]) -> tuple[list[str], list[str]]:
    """Lines of a Markdown table, and the names of the statements that grow."""
    sizes = list(found)
    small = found[sizes[0]]
    lines = [
        f"| statement | {' | '.join(f'{size:,} rows' for size in sizes)} | most ÷ first |",
        f"|---|{'--:|' * (len(sizes) + 1)}",
    ]
    too_many = []
    for name, least in small.items():
        counts = [found[size][name] for size in sizes]
        if max(counts) > LIMIT * least + slack(name):
            too_many.append(name)
        lines.append(f"| {name} | {' | '.join(f'{c:,.0f}' for c in counts)} | {max(counts) / least:.2f} |")
    return lines, too_many


def main() -> None:
    """Fill, explain, report; end with status 1 when a statement grows."""
    parser = ArgumentParser(
        prog="python -m benchmarks.growth", description="Measure the cost of statements in larger tables."
    )
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of rows, separated by commas")
    parser.add_argument("--output", type=Path, default=RESULTS / "growth.md", help="file for the table")
    asked = parser.parse_args()
    sizes = sorted(int(size) for size in asked.sizes.split(","))
    with cluster() as server_url:
        found = asyncio.run(measure(server_url, sizes))
    lines, too_many = table(found.blocks)
    verdict = (
        f"Statements that read too many blocks in larger tables: {', '.join(too_many)}."
        if too_many
        else "No statement exceeds the limit."
    )
    head = (
        f"Blocks that a statement reads, at {commit()}. The limit is {LIMIT} times those of the smallest table, plus "
        f"{SLACK} ({PAGE_SLACK} for a page or the products of a week, which are 21 rows or more) for the additional "
        f"levels of indexes. The {COUNTING} also counts up to {MAX_TOTAL:,} rows: {slack(COUNTING):.0f} more."
    )
    told = [
        head,
        "",
        *lines,
        "",
        verdict,
        "",
        LOG_HEAD,
        "",
        *writes.log_table(found.log),
        "",
        BESIDE_HEAD,
        "",
        *writes.snapshot_table(*found.beside),
    ]
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text("\n".join(told) + "\n")
    tell("\n".join(told))
    raise SystemExit(1 if too_many else 0)


if __name__ == "__main__":
    main()
