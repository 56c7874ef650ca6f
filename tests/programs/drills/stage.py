"""Shared by the drills: settings of the replicas, a database and billing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.programs.faults.postgres_cluster import PostgresCluster
from tests.programs.faults.service_process import ForkServer
from tests.programs.faults.world import IMPATIENT, World

METRICS_TOKEN = secrets.token_hex(32)


def as_in_production(**others: object) -> dict[str, object]:
    """Settings for World.start: production defaults without rate limits, because all requests have one IP address."""
    return {
        **dict.fromkeys(IMPATIENT),  # None: not set
        "RATE_LIMIT_LOGIN": "",
        "RATE_LIMIT_REGISTRATION": "",
        "METRICS_ACCESS": "token",
        "METRICS_TOKEN": METRICS_TOKEN,
        **others,
    }


@asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[World]:
    """A database and billing; everything ends with the block."""
    async with AsyncExitStack() as stopping:
        cluster = PostgresCluster(folder)
        stopping.push_async_callback(cluster.stop)
        await cluster.start()
        fork_server = ForkServer(folder)
        stopping.callback(fork_server.close)
        yield await stopping.enter_async_context(World.open(fork_server, cluster, folder / "world"))
