"""Watches the locks of a migration and the sessions that wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

PERIOD = 0.02  # seconds between two checks: shorter locks may be missed

# Locks of a migration that block reads or writes of a table that clients use; and how long clients
# have waited for locks that a migration holds, or waits for before them.
LOOK = """
    WITH migrating AS (
        SELECT pid, query FROM pg_stat_activity
        WHERE application_name = 'provider-registration-migrate' AND datname = current_database()
    ), held AS (
        SELECT pid, virtualtransaction AS transaction, relation::regclass::text AS relation, mode, granted
        FROM pg_locks JOIN migrating USING (pid)
        WHERE relation = ANY($1::oid[])
          AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    ), waiting AS (
        SELECT extract(epoch FROM clock_timestamp() - pg_locks.waitstart)::float8 AS seconds,
               (SELECT left(query, 200) FROM migrating WHERE pid = ANY(pg_blocking_pids(pg_locks.pid)) LIMIT 1) AS query
        FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND application_name = 'provider-registration'
    )
    SELECT (SELECT array_agg(transaction || ' ' || relation || ' ' || mode) FROM held WHERE granted) AS held,
           (SELECT max(seconds) FROM waiting WHERE query IS NOT NULL) AS waited,
           (SELECT query FROM waiting WHERE query IS NOT NULL ORDER BY seconds DESC LIMIT 1) AS blocker
"""
TABLES_IN_USE = """
    SELECT array_agg(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


@dataclass
class LockWatch:
    """The longest strong lock on an existing table, and the longest wait of a client, in seconds."""

    longest_lock: float = 0.0
    locked: str = "none"
    longest_wait: float = 0.0
    blocker: str = "none"

    @classmethod
    @asynccontextmanager
    async def watching(cls, url: str) -> AsyncIterator[LockWatch]:
        """Watch while the block runs."""
        watch = cls()
        connection = await asyncpg.connect(url, server_settings={"application_name": "lock watch"})
        tables = await connection.fetchval(TABLES_IN_USE)
        task = asyncio.create_task(watch._look(connection, tables))
        try:
            yield watch
        finally:
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
            await connection.close()
        if isinstance(results[0], Exception):
            raise results[0]

    async def _look(self, connection: asyncpg.Connection, tables: list[int]) -> None:
        since: dict[str, float] = {}
        while True:
            row = await connection.fetchrow(LOOK, tables)
            now = time.monotonic()
            since = {lock: since.get(lock, now) for lock in row["held"] or ()}
            for lock, begun in since.items():
                if now - begun + PERIOD > self.longest_lock:
                    self.longest_lock, self.locked = now - begun + PERIOD, lock.partition(" ")[2]
            if (row["waited"] or 0.0) > self.longest_wait:
                self.longest_wait, self.blocker = row["waited"], " ".join(row["blocker"].split())
            await asyncio.sleep(PERIOD)
