"""What writes cost as the table grows: bytes of the write-ahead log, and the counts beside an old snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause

from benchmarks import statements
from benchmarks.database import connected, row_id
from benchmarks.statements import blocks, compiled

Statement = tuple[TextClause, Mapping[str, Any]]
TRIES = 9  # rows, of which the median counts
WRITES = 2_000  # beside an old snapshot
PARTS = 10  # the first and the last of them are compared
PENDING_IDS = "SELECT id FROM candidates WHERE status = 'pending' AND id >= $1 ORDER BY id LIMIT 1"
LAST_POSITION = "SELECT last_position FROM event_dispatcher"
PLACE = "SELECT pg_current_wal_insert_lsn()"
OWN_TRANSACTION = "SELECT CAST(pg_current_xact_id() AS xid)"
FLUSH = "SELECT pg_logical_emit_message(true, 'growth', '')"  # its commit; only flushed records can be read
# Of one transaction, because others write too.
BYTES = """
    SELECT coalesce(sum(record_length - fpi_length), 0) AS records, coalesce(sum(fpi_length), 0) AS images
    FROM pg_get_wal_records_info($1, $2)
    WHERE xid = $3
"""
PAGES = "SELECT pg_relation_size('candidate_counts') / current_setting('block_size')::bigint"
BLOCKS = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
SEND_STATISTICS = "SELECT pg_stat_force_next_flush()"
OLD_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM candidate_counts"


@dataclass(frozen=True)
class Logged:
    """Bytes in the write-ahead log, and those of images of whole pages among them, beside the others."""

    records: float
    images: float


async def logged(connection: Any, statement: Statement, before: tuple[Statement, ...] = ()) -> Logged:
    """What a statement and its triggers log, after others in the same transaction; all of it is taken back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        for each in before:
            await _run(connection, each)
        begun = await connection.fetchval(PLACE)
        await _run(connection, statement)
        ended, own = await connection.fetchval(PLACE), await connection.fetchval(OWN_TRANSACTION)
    finally:
        await transaction.rollback()
    await connection.execute(FLUSH)
    return Logged(*map(int, await connection.fetchrow(BYTES, begun, ended, own)))


async def log_costs(connection: Any, rows: int, user_id: UUID) -> dict[str, Logged]:
    """The medians of each writing statement in a table of this size, each after a checkpoint."""
    rng = Random(rows)  # noqa: S311 - no secret
    pending = [await connection.fetchval(PENDING_IDS, row_id(rng.randint(1, rows))) for _ in range(TRIES + 1)]
    last = await connection.fetchval(LAST_POSITION)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")

    async def of(make: Callable[[int], tuple[Statement, ...]]) -> Logged:
        async def once(number: int) -> Logged:
            *before, statement = make(number)
            return await logged(connection, statement, tuple(before))

        await connection.execute("CHECKPOINT")
        await once(TRIES)  # it takes the images of pages that all of them write
        found = [await once(number) for number in range(TRIES)]
        return Logged(median(each.records for each in found), median(each.images for each in found))

    def register() -> Statement:
        place = rng.randint(1, rows)  # among the names and addresses of the rows
        return statements.register(f"office@company-{place}-log.example", f"Company {place} Log S.L.")

    def claim(number: int) -> Statement:
        return statements.claim(pending[number], user_id)

    return {
        "register": await of(lambda _: (register(),)),
        "number its event": await of(lambda _: (register(), statements.dispatch(last))),
        "reject": await of(lambda n: (statements.reject(pending[n]),)),
        "approve: claim": await of(lambda n: (claim(n),)),
        "approve: finish": await of(lambda n: (claim(n), statements.approve(pending[n]))),
    }


async def _run(connection: Any, statement: Statement) -> list[Any]:
    text, values = compiled(*statement)
    return list(await connection.fetch(text, *values))


@dataclass(frozen=True)
class Beside:
    """The counts and the writes beside an old snapshot, or without one."""

    pages: tuple[int, int, int]  # of the counts: before, after the writes, after the end of the snapshot and a vacuum
    milliseconds: tuple[float, float]  # a write: of the first part, of the last
    blocks: tuple[float, float]  # a write, as above
    page: tuple[int, int]  # blocks of a list's first page after the writes, after the vacuum


async def beside_snapshot(url: str, *, is_held: bool, writes: int = WRITES) -> Beside:
    """Register companies and reject them, one after the other over one connection."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(url))
        watcher = await stack.enter_async_context(connected(url))
        holder = await stack.enter_async_context(connected(url))
        await connection.execute("VACUUM candidate_counts")
        pages = [await watcher.fetchval(PAGES)]
        if is_held:
            await holder.execute(OLD_SNAPSHOT)
        times: list[list[float]] = []
        read = []
        for part in range(PARTS):
            before = await _blocks_so_far(connection)
            times.append(await _write(connection, writes // PARTS, part))
            read.append((await _blocks_so_far(connection) - before) / len(times[-1]))
        pages.append(await watcher.fetchval(PAGES))
        page = [await blocks(watcher, *statements.page())]
        await holder.execute("ROLLBACK")
        await connection.execute("VACUUM candidate_counts")
        pages.append(await watcher.fetchval(PAGES))
        page.append(await blocks(watcher, *statements.page()))
    first, last = (1000 * median(part) for part in (times[0], times[-1]))
    return Beside((pages[0], pages[1], pages[2]), (first, last), (read[0], read[-1]), (page[0], page[1]))


async def _write(connection: Any, writes: int, part: int) -> list[float]:
    """Times of this many writes in seconds: half register, half reject."""
    times, mark = [], time.time_ns()
    for number in range(max(writes // 2, 1)):
        begun = time.perf_counter()
        (added,) = await _run(connection, statements.register(f"beside-{mark}-{part}-{number}@example.com"))
        registered = time.perf_counter()
        await _run(connection, statements.reject(UUID(str(added["id"]))))
        times += [registered - begun, time.perf_counter() - registered]
    return times


async def _blocks_so_far(connection: Any) -> int:
    """Blocks that the database has touched, once this connection has told its own."""
    await connection.execute(SEND_STATISTICS)
    return int(await connection.fetchval(BLOCKS))


def log_table(found: Mapping[int, Mapping[str, Logged]]) -> list[str]:
    """Lines of a Markdown table."""
    sizes = list(found)
    lines = [f"| statement | {' | '.join(f'{size:,} rows' for size in sizes)} |", f"|---|{'--:|' * len(sizes)}"]
    for name in found[sizes[0]]:
        costs = (found[size][name] for size in sizes)
        lines.append(f"| {name} | {' | '.join(f'{c.records:,.0f} + {c.images:,.0f}' for c in costs)} |")
    return lines


def snapshot_table(without: Beside, held: Beside) -> list[str]:
    """Lines of a Markdown table."""

    def line(name: str, of: Callable[[Beside], str]) -> str:
        return f"| {name} | {of(without)} | {of(held)} |"

    return [
        "| | without | with |",
        "|---|--:|--:|",
        line("pages of the counts before, after", lambda b: f"{b.pages[0]}, {b.pages[1]}"),
        line("pages after its end and a vacuum", lambda b: f"{b.pages[2]}"),
        line("ms a write: first tenth, last", lambda b: f"{b.milliseconds[0]:.1f}, {b.milliseconds[1]:.1f}"),
        line("blocks a write: first tenth, last", lambda b: f"{b.blocks[0]:,.0f}, {b.blocks[1]:,.0f}"),
        line("blocks of a list's first page after the writes", lambda b: f"{b.page[0]:,}"),
        line("blocks of it after the end and a vacuum", lambda b: f"{b.page[1]:,}"),
    ]
