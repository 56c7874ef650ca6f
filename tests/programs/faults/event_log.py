"""The log of events while dispatchers die: each event gets one position, one delivery, and comes once in the feed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from tests.pgbouncer import PgBouncer
from tests.service import a_registration

from .feed_reader import FeedReader
from .invariants import Findings, conclude
from .kills import COUNTING, DISPATCHING
from .postgres_cluster import PostgresCluster
from .service_process import Replica
from .world import Candidate, World

SOME_MOMENT = "some moment"
# Around registering and rejecting, which are one statement each, it is some moment.
PLACES = (
    *DISPATCHING,
    *COUNTING,
    "approval.before-claim",
    "approval.after-claim-commit",
    "approval.before-finish",
    "approval.after-finish-commit",
    SOME_MOMENT,
)
SETTINGS = {
    "RATE_LIMIT_REGISTRATION": "",
    "SUBSCRIPTION": """
        INSERT INTO deliveries (kind, target, event_id)
        SELECT 'scenario', 'somebody', event_id FROM event_positions WHERE position BETWEEN :first AND :last
    """,
}
REPLICAS = 3
WRITERS = 4
REACHED_SECONDS = 20.0
SETTLED_SECONDS = 60.0
IDLE_TRANSACTION_SECONDS = 15.0  # then PostgreSQL ends the transaction of a stopped dispatcher
LATEST_SECONDS = 5.0  # from a commit until the event has its position, on a busy machine

LAST_POSITION = "SELECT last_position FROM event_dispatcher"
COUNT_QUEUED = "SELECT count(*) FROM event_queue"
COUNT_UNCOUNTED = """
    SELECT count(*) FROM event_positions WHERE position > (SELECT position FROM statistics_progress)
"""
READ_IDS = "SELECT event_id FROM event_positions WHERE position > $1 ORDER BY position"
FIND_CANDIDATES = "SELECT id, company_name FROM candidates WHERE company_name = ANY($1::text[])"
# Violations, each with an example.
PROBLEMS = {
    "events without a position": """
        SELECT event.id FROM candidate_events AS event
        LEFT JOIN event_positions AS positions ON positions.event_id = event.id
        WHERE positions.position IS NULL AND event.candidate_id = ANY($2::uuid[]) AND $1::bigint >= 0
    """,
    "positions that are not 1, 2, 3 …": """
        SELECT position FROM (
            SELECT position, row_number() OVER (ORDER BY position) AS expected FROM event_positions
            UNION ALL
            SELECT last_position, (SELECT count(*) FROM event_positions) FROM event_dispatcher
        ) AS numbered
        WHERE position <> expected AND $1::bigint >= 0 AND $2::uuid[] IS NOT NULL
    """,
    "sequences that are not 1, 2, 3 … in the order of the events": """
        SELECT event_id FROM (
            SELECT event_id, sequence,
                   row_number() OVER (PARTITION BY candidate_id ORDER BY event_id) AS by_event,
                   row_number() OVER (PARTITION BY candidate_id ORDER BY position) AS by_position
            FROM event_positions
        ) AS numbered
        WHERE (sequence <> by_event OR sequence <> by_position) AND $1::bigint >= 0 AND $2::uuid[] IS NOT NULL
    """,
    "candidates whose events are not those of their status": """
        SELECT candidates.id FROM candidates
        JOIN candidate_events AS event ON event.candidate_id = candidates.id
        WHERE candidates.id = ANY($2::uuid[]) AND $1::bigint >= 0
        GROUP BY candidates.id
        HAVING count(*) FILTER (WHERE type = 'candidate.registered') <> 1
            OR count(*) FILTER (WHERE type = 'candidate.approved') <> CAST(status = 'approved' AS integer)
            OR count(*) FILTER (WHERE type = 'candidate.rejected') <> CAST(status = 'rejected' AS integer)
            OR status = 'approved' AND count(*) FILTER (WHERE type = 'candidate.approval_requested') = 0
            OR max(event.version) <> candidates.version
    """,
    "statistics that are not the number of candidates": """
        SELECT counted.measure FROM (
            SELECT measure, sum(count) AS count FROM daily_statistics WHERE dimension = '' GROUP BY measure
        ) AS counted
        FULL JOIN (
            SELECT measure, count(*) AS count
            FROM candidates, unnest(ARRAY['registered', CAST(status AS text)]) AS measure
            GROUP BY measure
        ) AS stored ON stored.measure = counted.measure
        WHERE coalesce(stored.measure, counted.measure) IN ('registered', 'pending', 'approved', 'rejected')
          AND coalesce(counted.count, 0) <> coalesce(stored.count, 0)
          AND $1::bigint >= 0 AND $2::uuid[] IS NOT NULL
    """,
}
UNDELIVERED = {
    "events without exactly one delivery": """
        SELECT positions.event_id FROM event_positions AS positions
        LEFT JOIN deliveries ON deliveries.event_id = positions.event_id AND kind = 'scenario'
        WHERE position > $1 AND $2::uuid[] IS NOT NULL
        GROUP BY positions.event_id
        HAVING count(deliveries.id) <> 1
    """
}


@dataclass
class Writers:
    """Register companies and decide about them through any of some replicas, of which some die."""

    world: World
    replicas: list[Replica]
    random: Random
    count: int = WRITERS
    left: float = inf  # companies that may register
    names: list[str] = field(default_factory=list)
    is_done: bool = False

    async def run(self) -> None:
        """Write until it is done."""
        await asyncio.gather(*(self._write() for _ in range(self.count)))

    async def candidates(self) -> list[Candidate]:
        """Those that were stored, acknowledged or not."""
        return [
            Candidate(row["id"], row["company_name"]) for row in await self.world.fetch(FIND_CANDIDATES, self.names)
        ]

    async def _write(self) -> None:
        while not self.is_done:
            if not self.left:
                await asyncio.sleep(0.05)
                continue
            self.left -= 1
            name = f"company-{uuid4().hex}"
            self.names.append(name)
            body = a_registration(company_name=name, contact_email=f"{name}@example.com", products=["apples"])
            response = await self.world.ask(self._any(), "POST", "/candidates", json=body)
            if response is not None and response.status_code == 201:
                candidate = Candidate(response.json()["candidate_id"], name)
                decide = self.random.choice([self.world.approve, self.world.reject])
                if self.random.random() < 0.8:
                    await decide(self._any(), candidate)
            await asyncio.sleep(self.random.uniform(0.0, 0.5))

    def _any(self) -> Replica:
        return self.random.choice(self.replicas)


@dataclass
class Log:
    """Replicas that all dispatch, writers, and a reader of the feed, until `check`."""

    world: World
    replicas: list[Replica]
    start: int
    writers: Writers
    reader: FeedReader
    writing: asyncio.Task[None]
    reading: asyncio.Task[None]

    @classmethod
    @asynccontextmanager
    async def written(cls, world: World, random: Random, **settings: object) -> AsyncIterator[Log]:
        """Write and read it during the block."""
        [row] = await world.fetch(LAST_POSITION)
        start = row["last_position"]
        replicas = list(await asyncio.gather(*(world.start(**SETTINGS, **settings) for _ in range(REPLICAS))))
        await world.log_in(replicas[0])
        writers, reader = Writers(world, replicas, random), FeedReader(world, replicas, start, random)
        writing, reading = asyncio.create_task(writers.run()), asyncio.create_task(reader.run())
        try:
            yield cls(world, replicas, start, writers, reader, writing, reading)
        finally:
            for task in (writing, reading):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def check(self) -> Findings:
        """Stop writing, wait until nothing is left to number, and compare."""
        await self.stop_writing()
        candidates = await self.writers.candidates()
        findings = await conclude(self.world, self.replicas[0], candidates)
        await self.until_numbered(SETTLED_SECONDS)
        await self.until_counted(SETTLED_SECONDS)
        ids = [row["event_id"] for row in await self.world.fetch(READ_IDS, self.start)]
        if problem := await self.reader.until_read(ids, SETTLED_SECONDS):
            findings.problems.append(problem)
        if self.reading.done():
            self.reading.result()
        findings.problems += await find_problems(self.world, PROBLEMS | UNDELIVERED, self.start, candidates)
        assert len(ids) > len(candidates) > 0, "nothing happened"
        return findings

    async def stop_writing(self) -> None:
        """Let writers end, each with its last response: what was asked goes on after a client is gone."""
        self.writers.is_done = True
        await self.writing

    async def until_numbered(self, seconds: float) -> float:
        """Wait until every event has a position; return the seconds that it took."""
        begun = time.monotonic()
        while (await self.world.fetch(COUNT_QUEUED))[0][0]:
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"events have no positions after {seconds:.0f} s")
            await asyncio.sleep(0.03)
        return time.monotonic() - begun

    async def until_counted(self, seconds: float) -> None:
        """Wait until the statistics have every event."""
        begun = time.monotonic()
        while (await self.world.fetch(COUNT_UNCOUNTED))[0][0]:
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"events are not counted after {seconds:.0f} s")
            await asyncio.sleep(0.1)


async def find_problems(
    world: World, queries: Mapping[str, str], start: int, candidates: Sequence[Candidate]
) -> list[str]:
    """What these queries find among the events after a position and those of the candidates."""
    found = {name: await world.fetch(query, start, [one.id for one in candidates]) for name, query in queries.items()}
    return [f"{len(rows)} {name}, such as {rows[0][0]}" for name, rows in found.items() if rows]


async def kill_dispatchers_at(
    world: World, place: str, random: Random, *, kills: int = 2, pooled: bool = False
) -> Findings:
    """Kill one of several dispatchers at a failpoint, start another one, and again; `pooled`: through PgBouncer."""
    with ExitStack() as stopping:
        settings = _through_pgbouncer(world, stopping) if pooled else {}
        async with Log.written(world, random, **settings) as log:
            for _ in range(kills):
                if place == SOME_MOMENT:
                    victim = log.replicas.pop()
                    await asyncio.sleep(random.uniform(0.2, 2.0))
                else:
                    how = {**SETTINGS, **settings, "failpoint": place, "hit": random.randint(1, 2)}
                    victim = await world.start("victim", **how)
                    log.replicas.append(victim)
                    await victim.wait_until_dead(REACHED_SECONDS)
                    log.replicas.remove(victim)
                await world.kill(victim)
                log.replicas.append(await world.start(**SETTINGS, **settings))
            return await log.check()


async def stop_dispatcher(world: World, random: Random) -> Findings:
    """SIGSTOP a dispatcher in its transaction: the others go on when PostgreSQL has ended it."""
    async with Log.written(world, random) as log:
        stopped = await world.start(
            "stopped", **SETTINGS, failpoint=DISPATCHING[0], action="stop", hit=random.randint(1, 2)
        )
        await stopped.wait_until_reached()
        await log.stop_writing()
        waited = await log.until_numbered(IDLE_TRANSACTION_SECONDS + LATEST_SECONDS)
        stopped.continue_()
        log.replicas.append(stopped)
        findings = await log.check()
        findings.measured["seconds without positions, a dispatcher stopped in its transaction"] = waited
        return findings


async def kill_database_of_dispatchers(world: World, random: Random, *, kills: int = 2) -> Findings:
    """Kill PostgreSQL while several processes dispatch, and start it again."""
    cluster = world.cluster
    assert isinstance(cluster, PostgresCluster), "this PostgreSQL must not be killed"
    async with Log.written(world, random) as log:
        for _ in range(kills):
            await asyncio.sleep(random.uniform(0.3, 2.0))
            cluster.kill()
            await cluster.restart()
        return await log.check()


async def leave_transactions_open(world: World, random: Random, *, seconds: float, pooled: bool = False) -> Findings:
    """Leave a transaction with an event, and one of another database, open for long: positions do not stall."""
    connections = [
        await asyncpg.connect(url)
        for url in (world.database_url, urlsplit(world.database_url)._replace(path="/postgres").geturl())
    ]
    with ExitStack() as stopping:
        for connection in connections:
            stopping.callback(connection.terminate)
        settings = _through_pgbouncer(world, stopping) if pooled else {}
        late, foreign = connections
        transactions = [connection.transaction() for connection in connections]
        for transaction in transactions:
            await transaction.start()
        await foreign.execute("SELECT txid_current()")
        name = f"company-{uuid4().hex}"
        await late.execute(
            "INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day) "
            "VALUES ($1, $2, '{apples}', 1, 1)",
            name,
            f"{name}@example.com",
        )
        event_id = await late.fetchval("SELECT max(id) FROM candidate_events")
        async with Log.written(world, random, **settings) as log:
            log.writers.names.append(name)
            slowest, end = 0.0, time.monotonic() + seconds
            while time.monotonic() < end:
                slowest = max(slowest, await _seconds_until_position(world))
            for transaction in transactions:
                await transaction.commit()
            findings = await log.check()
            before = await world.fetch(
                "SELECT FROM event_positions WHERE event_id > $1 AND position < "
                "(SELECT position FROM event_positions WHERE event_id = $1)",
                event_id,
            )
            assert before, "no position was given while the transaction was open"
            if slowest > LATEST_SECONDS:
                findings.problems.append(f"an event had no position for {slowest:.1f} s")
            findings.measured["seconds from a commit to the position, a transaction left open"] = slowest
            return findings


async def _seconds_until_position(world: World) -> float:
    [row] = await world.fetch("SELECT max(id) AS newest FROM candidate_events")
    begun = time.monotonic()
    while not await world.fetch("SELECT FROM event_positions WHERE event_id = $1", row["newest"] or 0):
        if row["newest"] is None or time.monotonic() - begun > SETTLED_SECONDS:
            break
        await asyncio.sleep(0.03)
    return time.monotonic() - begun


def _through_pgbouncer(world: World, stopping: ExitStack) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-pgbouncer-"))
    folder.chmod(0o755)  # for root, whose PgBouncer runs as another account
    stopping.callback(shutil.rmtree, folder)
    pgbouncer = PgBouncer(folder / "files", world.database_url)
    stopping.callback(pgbouncer.stop)
    through = urlsplit(world.database_url)._replace(netloc=f"postgres@127.0.0.1:{pgbouncer.port}").geturl()
    return {"database_url": through, "DATABASE_PREPARED_STATEMENTS": False}
