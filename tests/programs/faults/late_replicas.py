"""Two read replicas behind one URL, one of them late: no list shows a candidate as pending after its decision."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from tests.standby import SERVING_SESSIONS, at, lagging, round_robin, standby_of

from .crowds import PATIENT
from .invariants import Findings, conclude
from .postgres_cluster import PostgresCluster
from .service_process import Replica
from .world import Candidate, World

LISTS_AT_ONCE = 10
DECISIONS = {"approve": "approved", "reject": "rejected"}


async def read_from_late_replicas(world: World, random: Random, *, decisions: int = 8) -> Findings:
    """Decide, and read through a balancer over two replicas, while one and then the other is suspended."""
    async with _two_standbys(world) as urls, round_robin(*urls) as port:
        settings = {**PATIENT, "DATABASE_POOL_SIZE": 4, "DATABASE_READ_URL": at(urls[0], port)}
        deciding, other = await world.start("one", **settings), await world.start("other", **settings)
        await world.log_in(deciding)
        candidates = await world.register(2 * decisions)
        shown = random.sample(urls, 2)
        for url, some in zip(shown, (candidates[:decisions], candidates[decisions:]), strict=True):
            async with _connected(url) as late, lagging(late):
                for done in range(len(some)):
                    await _decide_and_look(world, (deciding, other), some[: done + 1], random)
                assert await late.fetch(SERVING_SESSIONS), "the late replica was not read"
        return await conclude(world, deciding, candidates)


async def _decide_and_look(
    world: World, replicas: tuple[Replica, Replica], candidates: list[Candidate], random: Random
) -> None:
    """Decide the last one; it and those before it are decided in every response."""
    deciding, _ = replicas
    candidate, decision = candidates[-1], random.choice(list(DECISIONS))
    response = await world.ask(deciding, "POST", f"/candidates/{candidate.id}/{decision}")
    assert response is not None, "a decision got no response"
    assert response.status_code == 200, response.text
    decided = {str(one.id) for one in candidates}
    lists = await asyncio.gather(
        *(
            # Lists with different limits, which share no statement.
            world.ask(deciding, "GET", "/candidates", params={"status": "pending", "limit": 100 - n})
            for n in range(LISTS_AT_ONCE)
        )
    )
    for answer in lists:
        assert answer is not None, "a list got no response"
        assert answer.status_code == 200, answer.text
        late = decided & {one["candidate_id"] for one in answer.json()["candidates"]}
        assert not late, f"{len(late)} decided candidates are listed as pending"
    for replica in replicas:
        record = await world.ask(replica, "GET", f"/candidates/{candidate.id}")
        assert record is not None, "a read got no response"
        assert record.json()["status"] == DECISIONS[decision], record.text


@asynccontextmanager
async def _two_standbys(world: World) -> AsyncIterator[list[str]]:
    """Two standbys of the world's PostgreSQL during the block; URLs of the world's database there."""
    cluster = world.cluster
    assert isinstance(cluster, PostgresCluster), "this PostgreSQL must not be copied"
    async with AsyncExitStack() as stopping:
        urls = []
        for _ in range(2):
            home = cluster.home.parent / f"standby-{uuid4().hex[:8]}"
            stopping.callback(shutil.rmtree, home, ignore_errors=True)
            urls.append(await stopping.enter_async_context(_standby(world.database_url, home, cluster.options)))
        stopping.push_async_callback(world.clear)  # its readers end first
        yield urls


@asynccontextmanager
async def _standby(database_url: str, home: Path, options: dict[str, str]) -> AsyncIterator[str]:
    standby = standby_of(database_url, home, options)
    url = await asyncio.to_thread(standby.__enter__)
    try:
        yield urlsplit(url)._replace(path=urlsplit(database_url).path).geturl()
    finally:
        await asyncio.to_thread(standby.__exit__, None, None, None)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
