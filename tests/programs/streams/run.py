"""Follow the feed with 1,000 clients, and through 200 writers: `python -m tests.programs.streams.run --help`.

Many streams on one process must cost little memory, delay no other request, and miss no event. A reader that
reconnects at random must see every event of concurrent writers once, in the order of the positions; so must a consumer
of NATS, once it has removed repeated events.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from statistics import quantiles
from urllib.parse import urlsplit

import asyncpg

from provider_registration.events.stream import MAX_STREAMS
from provider_registration.web.server import MAX_CONNECTIONS_PER_NETWORK
from tests.events.candidates import add_candidate, add_event
from tests.nats_server import running_nats
from tests.programs.drills.stage import as_in_production, prepared
from tests.programs.faults.feed_reader import FeedReader
from tests.programs.faults.service_process import Replica
from tests.programs.faults.world import World

from .consumer import Consumer

MOST_MEMORY = 100.0  # MB for all streams
SLOWEST_PROBE = 0.05  # seconds, at the 99th percentile
PROBE = Path(__file__).with_name("probe.py")
EVENTS_A_SECOND = 10
OPENING = 50  # streams at the same time
LATEST_SECONDS = 30.0  # from the last event until everybody has it
NEWEST_POSITION = "SELECT last_position FROM event_dispatcher"
READ_IDS = "SELECT event_id FROM event_positions WHERE position > $1 ORDER BY position"
PUBLISH_AFTER = "INSERT INTO broker_positions (name, position) VALUES ('nats', $1)"


class Follower(asyncio.Protocol):
    """A client of the stream that counts what comes, with little work."""

    def __init__(self, head: bytes) -> None:
        self.ids: list[bytes] = []
        self.is_open = asyncio.Event()
        self.is_lost = False
        self._head = head
        self._rest = self._id = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        transport.write(self._head)  # type: ignore[attr-defined]  # of a socket

    def data_received(self, data: bytes) -> None:
        """Keep the cursors of events."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"HTTP/1.1"):
                assert b" 200 " in line, line
                self.is_open.set()
            elif line.startswith(b"id: "):
                self._id = line[4:]
            elif line.startswith(b"data: "):  # a comment has none
                self.ids.append(self._id)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note an end that nobody asked for."""
        self.is_lost = True


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def open_streams(world: World, replica: Replica, streams: int) -> list[Follower]:
    """Open streams of several sessions, from several addresses, as the limits demand."""
    place = urlsplit(replica.url)
    loop = asyncio.get_running_loop()
    sessions = []
    for _ in range(-(-streams // MAX_STREAMS)):
        await world.log_in(replica, again=True)
        sessions.append(world.authorization["Authorization"])
    slots = asyncio.Semaphore(OPENING)

    async def open_one(number: int) -> Follower:
        fields = f"Host: {place.netloc}\r\nAuthorization: {sessions[number // MAX_STREAMS]}\r\n"
        head = f"GET /events/stream HTTP/1.1\r\n{fields}\r\n"
        address = f"127.0.0.{2 + number // (MAX_CONNECTIONS_PER_NETWORK - 10)}"
        async with slots, asyncio.timeout(60):
            _, follower = await loop.create_connection(
                lambda: Follower(head.encode()), place.hostname, place.port, local_addr=(address, 0)
            )
            await follower.is_open.wait()
        return follower

    return await asyncio.gather(*(open_one(number) for number in range(streams)))


async def probe(url: str, seconds: float) -> list[float]:
    """The times of `/health/live` for a while, measured by another process."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, PROBE, urlsplit(url).netloc, str(seconds)), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await program.communicate()
    assert program.returncode == 0, "the probe failed"
    took: list[float] = json.loads(output)
    return took


async def follow_with_many(world: World, options: Namespace) -> list[str]:
    """Measure memory, probes and completeness while events are written; return what was wrong."""
    replica = await world.start(**as_in_production())
    await world.log_in(replica)
    async with connected(world.database_url) as connection:
        candidate = await add_candidate(connection)
        await probe(replica.url, 2)  # warm
        alone = await probe(replica.url, options.seconds / 2)
        before = resident_megabytes(replica.pid)
        followers = await open_streams(world, replica, options.streams)
        await asyncio.sleep(2)
        idle = await probe(replica.url, options.seconds / 2)
        start = await connection.fetchval(NEWEST_POSITION)
        events = round(options.seconds * EVENTS_A_SECOND)

        async def write() -> None:
            for _ in range(events):
                await add_event(connection, candidate)
                await asyncio.sleep(1 / EVENTS_A_SECOND)

        spent = processor_seconds(replica.pid)
        took, _ = await asyncio.gather(probe(replica.url, options.seconds), write())
        share = (processor_seconds(replica.pid) - spent) / options.seconds
    wanted = [b"%d" % position for position in range(start + 1, start + events + 1)]
    incomplete = await until_complete(followers, wanted)
    grown = resident_megabytes(replica.pid) - before
    for name, times in (("no stream", alone), ("streams, no events", idle), ("streams and events", took)):
        tell(f"/health/live, {name}: {in_milliseconds(times)}")
    tell(f"{len(followers)} streams: {grown:.0f} MB more, {share:.0%} of a core; {events} events to each")
    slowest = quantiles(took, n=100)[98]
    checks = {
        f"the streams took {grown:.0f} MB, more than {MOST_MEMORY:.0f}": grown > MOST_MEMORY,
        f"/health/live took {slowest * 1000:.0f} ms at the 99th percentile": slowest > SLOWEST_PROBE,
        f"{incomplete} streams did not get each event once, in order": incomplete,
        "streams were closed": any(one.is_lost for one in followers),
    }
    return [problem for problem, is_wrong in checks.items() if is_wrong]


async def until_complete(followers: Sequence[Follower], wanted: Sequence[bytes]) -> int:
    """Wait until all have these events; return the number of those that have not, or have others."""
    end = time.monotonic() + LATEST_SECONDS
    incomplete = len(followers)
    while incomplete and time.monotonic() < end:
        await asyncio.sleep(0.5)
        incomplete = sum(one.ids != wanted for one in followers)
    return incomplete


async def write_with_many(world: World, options: Namespace) -> list[str]:
    """Read the feed and the stream of NATS with random reconnects while many write; return what was wrong."""
    async with connected(world.database_url) as connection, running_nats() as nats:
        start = await connection.fetchval(NEWEST_POSITION)
        await connection.execute(PUBLISH_AFTER, start)
        replicas = [await world.start(**as_in_production(EVENTS_NATS_URL=nats.url)) for _ in range(2)]
        await world.log_in(replicas[0], again=True)
        candidates = [await add_candidate(connection) for _ in range(options.writers // 4)]
        reader = FeedReader(world, replicas, start, Random(options.seed))  # noqa: S311 - to be repeated
        consumer = Consumer(nats.url, Random(options.seed))  # noqa: S311 - as above
        reading = [asyncio.create_task(each.run()) for each in (reader, consumer)]

        async def write(number: int) -> None:
            own = await asyncpg.connect(world.database_url)
            for turn in range(options.events // options.writers):
                await add_event(own, candidates[(number + turn) % len(candidates)])
            await own.close()

        begun = time.monotonic()
        await asyncio.gather(*(write(number) for number in range(options.writers)))
        written = time.monotonic() - begun
        while await connection.fetchval("SELECT EXISTS (SELECT FROM event_queue)"):
            await asyncio.sleep(0.05)
        numbered = time.monotonic() - begun
        ids = [row["event_id"] for row in await connection.fetch(READ_IDS, start)]
        problems = [await reader.until_read(ids, 120)]
        read = time.monotonic() - begun
        problems.append(await consumer.until_consumed(ids, 120))
        consumed = time.monotonic() - begun
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
    tell(
        f"{options.writers} writers: {len(ids)} events written in {written:.1f} s, numbered after {numbered:.1f} s, "
        f"read after {read:.1f} s over {reader.connections} connections"
    )
    tell(
        f"NATS: {len(consumer.ids)} events consumed after {consumed:.1f} s over {consumer.connections} connections, "
        f"{consumer.repeated} of them again"
    )
    return [problem for problem in problems if problem]


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection, closed after the block."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


def in_milliseconds(times: Sequence[float]) -> str:
    """Percentiles."""
    percentiles = quantiles(times, n=100)
    return f"p50 {percentiles[49] * 1000:.0f} ms, p99 {percentiles[98] * 1000:.0f} ms, of {len(times)}"


def tell(line: str) -> None:
    """Print a line."""
    print(line, flush=True)  # noqa: T201 - what the command is for


async def measure(options: Namespace, folder: Path) -> list[str]:
    """Do both, each with processes of its own."""
    problems = []
    async with prepared(folder) as world:
        for part in (follow_with_many, write_with_many):
            if options.only in part.__name__:
                problems += await part(world, options)
                await world.clear()
    return problems


def main() -> None:
    """Read the command line, measure, and exit with 1 if something was wrong."""
    parser = ArgumentParser(description="Follow the feed of events with many clients, and while many write.")
    parser.add_argument("--streams", type=int, default=1000, help="clients of one process (1,000)")
    parser.add_argument("--seconds", type=float, default=20, help="of events for them (20)")
    parser.add_argument("--writers", type=int, default=200, help="concurrent writers (200)")
    parser.add_argument("--events", type=int, default=10_000, help="that they write (10,000)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="of the reader's reconnects")
    parser.add_argument("--only", default="", help="one part: follow or write (both)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-streams-"))
    folder.chmod(0o755)  # for root, whose PostgreSQL runs as another account
    try:
        problems = asyncio.run(measure(options, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        tell(f"FAILED: {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
