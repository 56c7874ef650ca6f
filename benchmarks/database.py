"""The databases: some with our migrations, the peers' with theirs, and the same rows in all."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from benchmarks.processes import parent_of
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings

OURS, PEERS = "ours", "peers"  # databases; those of our schema are made by our migrations
OF_OUR_SCHEMA = frozenset({OURS, "limited", "equal"})
SESSIONS = 400  # of the admin: with the default limits, each may send 1,200 requests a minute
ADD_SESSIONS = """
    INSERT INTO sessions (user_id, expires_at)
    SELECT $1, now() + interval '1 day' FROM generate_series(1, CAST($2 AS integer))
    RETURNING id
"""
PEERS_SCHEMA = Path(__file__).parent / "peers/schema.sql"
PERIOD = timedelta(days=730)  # over which registrations are spread
ADMIN_EMAIL, ADMIN_PASSWORD = "admin@example.com", secrets.token_urlsafe()
FORGET_TRIES, FORGET_PAUSE = 20, 0.5  # seconds between tries
IDLE_TRIES, IDLE_PAUSE = 600, 0.1  # seconds between tries
COUNT_BUSY = """
    SELECT count(*) FROM pg_stat_activity
    WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
OWN_MARK = "bench-"  # the e-mail addresses of rows created by runs start with this

# What a server of 8 GB would have; one cluster serves all, with every commit made durable.
SERVER_OPTIONS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "random_page_cost": "1.1",
    "max_connections": "200",
}

# Rows number $1 to $2, one every $4 seconds from $3 on; {columns} and {values} are those that only our table has. What
# a row has depends on its number alone: 70 % are pending, 20 % approved and 10 % rejected; 40 % deliver apples and
# 0.1 % mangoes. Ids are as random as any, and can be told.
FILL = """
    INSERT INTO candidates (id, status, company_name, contact_email, phone, products, truck_count,
                            capacity_tons_per_day, location, created_at, updated_at, provider_id, version,
                            rejection_reason{columns})
    SELECT CAST(md5(CAST(i AS text)) AS uuid),
           status,
           'Company ' || i || ' S.L.',
           'office@company-' || i || '.example',
           CASE WHEN i % 10 > 0 THEN '+34 963 ' || lpad(CAST(i % 1000000 AS text), 6, '0') END,
           CASE WHEN cardinality(products) > 0 THEN products ELSE ARRAY['oranges'] END,
           1 + i % 40,
           10 + i % 300,
           CASE WHEN i % 12 > 0 THEN 'Valencia, Spain' END,
           created_at,
           created_at + CASE WHEN status = 'pending' THEN interval '0' ELSE interval '3 days' END,
           CASE WHEN status = 'approved' THEN i END,
           CASE WHEN status = 'pending' THEN 1 ELSE 2 END,
           CASE WHEN status = 'rejected' THEN 'No cold chain' END{values}
    FROM (
        SELECT i,
               CAST($3 AS timestamptz) + make_interval(secs => i * CAST($4 AS float8)) AS created_at,
               CASE WHEN hashint4extended(i, 1) & 1023 < 717 THEN 'pending'
                    WHEN hashint4extended(i, 1) & 1023 < 922 THEN 'approved'
                    ELSE 'rejected' END AS status,
               array_remove(ARRAY[
                   CASE WHEN hashint4extended(i, 2) & 1023 < 410 THEN 'apples' END,
                   CASE WHEN hashint4extended(i, 3) & 1023 < 358 THEN 'oranges' END,
                   CASE WHEN hashint4extended(i, 4) & 1023 < 256 THEN 'grapes' END,
                   CASE WHEN hashint4extended(i, 5) & 1023 < 154 THEN 'bananas' END,
                   CASE WHEN hashint4extended(i, 6) & 1023 < 1 THEN 'mangoes' END
               ], NULL) AS products
        FROM generate_series(CAST($1 AS integer), CAST($2 AS integer)) AS i
    ) AS made
"""

SEARCH_TEXT = """
    , ' office company ' || i || ' example s l' || CASE WHEN i % 12 > 0 THEN ' valencia spain' ELSE '' END
      || CASE WHEN i % 10 > 0 THEN ' 34963' || lpad(CAST(i % 1000000 AS text), 6, '0') ELSE '' END
"""

# Fresh pending rows for a run that decides.
PREPARE_PENDING = """
    INSERT INTO candidates (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day,
                            location{columns})
    SELECT 'Bench ' || $2 || ' ' || i, $3 || $2 || '-' || i || '@example.com', '+34 963 555 017',
           ARRAY['oranges', 'grapes'], 12, 80, 'Valencia, Spain'{values}
    FROM generate_series(1, CAST($1 AS integer)) AS i
    RETURNING id
"""
PENDING_SEARCH_TEXT = ", ' bench ' || $2 || ' ' || i || ' example com valencia spain 34963555017'"

# What the background tasks of ours would do for the rows that were put in, while something else is measured.
FINISH_ROWS = (
    "UPDATE candidate_keys SET keys = '{}', word_keys = '{}' WHERE keys IS NULL OR word_keys IS NULL",
    "DELETE FROM event_queue",
)

# Ours has events that refer to candidates.
FORGET_HISTORY = """
    WITH forgotten AS (
        DELETE FROM approval_events USING candidates
        WHERE candidates.id = candidate_id AND contact_email LIKE 'bench-%'
    )
    DELETE FROM candidate_events USING candidates
    WHERE candidates.id = candidate_id AND contact_email LIKE 'bench-%'
"""
FORGET_INTENTS = """
    DELETE FROM approval_intents USING candidates
    WHERE candidates.id = candidate_id AND contact_email LIKE 'bench-%'
"""
FORGET_QUEUE = """
    DELETE FROM event_queue USING candidates
    WHERE candidates.id = candidate_id AND contact_email LIKE 'bench-%'
"""
FORGET_MADE = "DELETE FROM candidates WHERE contact_email LIKE 'bench-%'"
HAS_HISTORY = "SELECT to_regclass('candidate_events') IS NOT NULL"

# The positions of pages around a depth, for cursors.
PLACES = """
    SELECT created_at, id FROM candidates ORDER BY created_at DESC, id DESC OFFSET $1 LIMIT $2
"""


def row_id(number: int) -> UUID:
    """The ID of a row that FILL created."""
    return UUID(md5(str(number).encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True)
class Databases:
    """The databases of the contenders by name, with the same rows; in our schema an admin has sessions."""

    rows: int
    urls: Mapping[str, str]
    admin_id: UUID
    session_ids: Sequence[UUID]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of asyncpg's."""
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC", "jit": "off"})
    try:
        yield connection
    finally:
        await connection.close()


async def make_databases(
    server_url: str, rows: int, names: Collection[str] = OF_OUR_SCHEMA | {PEERS}, prefix: str = "bench"
) -> Databases:
    """Create the databases of these names with this many rows, and replace those that exist. OURS is always made."""
    urls = {name: urlsplit(server_url)._replace(path=f"/{prefix}_{name}_{rows}").geturl() for name in {OURS, *names}}
    begun, step = datetime.now(UTC) - PERIOD, PERIOD / rows
    await _create(server_url, urls[OURS])
    await asyncio.to_thread(migrations.upgrade, urls[OURS])
    admin_id = await add_admin(urls[OURS])
    async with connected(urls[OURS]) as connection:
        added = await connection.fetch(ADD_SESSIONS, admin_id, SESSIONS)
        await fill(connection, 1, rows, begun=begun, step=step, searchable=True)
    for name in urls.keys() & OF_OUR_SCHEMA - {OURS}:
        await _create(server_url, urls[name], template=urls[OURS])
    if PEERS in urls:
        await _create(server_url, urls[PEERS])
        async with connected(urls[PEERS]) as connection:
            await connection.execute(PEERS_SCHEMA.read_text())
            await fill(connection, 1, rows, begun=begun, step=step)
    return Databases(rows, urls, admin_id, [record["id"] for record in added])


async def _create(server_url: str, url: str, *, template: str | None = None) -> None:
    name = _name_of(url)
    async with connected(server_url) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {name}{f' TEMPLATE {_name_of(template)}' if template else ''}")


def _name_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


async def fill(
    connection: Any,
    first: int,
    last: int,
    *,
    begun: datetime,
    step: timedelta,
    searchable: bool = False,
    analyze: bool = True,
) -> None:
    """Add rows and update the planner's statistics. `searchable`: as if ours had served since, in our schema."""
    more = {"columns": ", search_text", "values": SEARCH_TEXT} if searchable else {"columns": "", "values": ""}
    await connection.execute(FILL.format(**more), first, last, begun, step.total_seconds())
    if searchable:
        for statement in FINISH_ROWS:
            await connection.execute(statement)
    if analyze:
        await connection.execute("VACUUM ANALYZE")


async def add_admin(url: str) -> UUID:
    """Add the user of the requests to our database, and return its ID."""
    database = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1)
    hasher = PasswordHasher()
    user_id = await UserDirectory(database, hasher).create(ADMIN_EMAIL, ADMIN_PASSWORD, Role.ADMIN)
    hasher.close()
    await database.close()
    return user_id


async def prepare_pending(url: str, count: int) -> list[UUID]:
    """Ids of fresh pending candidates."""
    async with connected(url) as connection:
        is_ours = await connection.fetchval(HAS_HISTORY)
        more = {"columns": ", search_text", "values": PENDING_SEARCH_TEXT} if is_ours else {"columns": "", "values": ""}
        async with connection.transaction():
            found = await connection.fetch(PREPARE_PENDING.format(**more), count, f"{time.time_ns()}", OWN_MARK)
            for statement in FINISH_ROWS if is_ours else ():
                await connection.execute(statement)
    ids = [record["id"] for record in found]
    Random(0).shuffle(ids)  # noqa: S311 - no secret
    return ids


async def forget_made(url: str) -> None:
    """Delete what a run created, so that the next one has the same table."""
    async with connected(url) as connection:
        statements = [FORGET_MADE]
        if await connection.fetchval(HAS_HISTORY):
            statements = [FORGET_QUEUE, FORGET_HISTORY, FORGET_INTENTS, FORGET_MADE]
        for tries_left in reversed(range(FORGET_TRIES)):
            try:
                async with connection.transaction():
                    for statement in statements:
                        await connection.execute(statement)
                break
            except (asyncpg.IntegrityConstraintViolationError, asyncpg.DeadlockDetectedError):
                # An approval continues after its client has left.
                if not tries_left:
                    raise
                await asyncio.sleep(FORGET_PAUSE)
        await connection.execute("VACUUM ANALYZE")


async def places_at(url: str, offset: int, count: int) -> list[tuple[datetime, UUID]]:
    """Instants and ids of the rows from `offset` on, newest first."""
    async with connected(url) as connection:
        return [(record["created_at"], record["id"]) for record in await connection.fetch(PLACES, offset, count)]


async def until_idle(url: str) -> None:
    """Wait, at most a minute, until PostgreSQL has finished requests of clients that left."""
    async with connected(url) as connection:
        for _ in range(IDLE_TRIES):
            if not await connection.fetchval(COUNT_BUSY):
                return
            await asyncio.sleep(IDLE_PAUSE)


async def server_pid(url: str) -> int | None:
    """The server's first process; None if the server is on another machine."""
    async with connected(url) as connection:
        try:
            return parent_of(await connection.fetchval("SELECT pg_backend_pid()"))
        except OSError:
            return None
