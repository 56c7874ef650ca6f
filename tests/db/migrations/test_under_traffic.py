"""Migrations do not block others: nothing queues behind a waiting step, and writers keep their privileges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.candidates.filling import filler_of_search_texts
from provider_registration.candidates.search_text import search_text
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.db.grants import grant_service
from provider_registration.db.migrations import MigrationError
from provider_registration.db.revisions import REVISIONS
from provider_registration.settings import DatabaseSettings

BELOW_COUNTS = "008_sessions"
REGISTER = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ('Obsthof', $1 || '@obsthof.example', '{apples}', 1, 1)
"""
BEFORE_SEARCH_TEXT = REVISIONS[REVISIONS.index("017_search_text") - 1]
# Those that an older release may serve beside.
STEPS_OF_LOG = REVISIONS[REVISIONS.index("020_candidate_events") :]
# Record the strong locks that a migration holds after each command, on tables that were there before.
WATCH_LOCKS = """
    CREATE TABLE held AS SELECT pg_current_xact_id() AS transaction, oid AS relation FROM pg_class WHERE false;
    CREATE TABLE in_use AS SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace;
    CREATE FUNCTION watch_locks() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO held SELECT DISTINCT pg_current_xact_id(), relation
        FROM pg_locks JOIN in_use ON in_use.oid = relation
        WHERE pid = pg_backend_pid()
          AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock');
    END
    $$;
    CREATE EVENT TRIGGER watch_locks ON ddl_command_end EXECUTE FUNCTION watch_locks();
"""
HELD_LONGER = "SELECT relation::regclass::text FROM held GROUP BY transaction, relation HAVING count(*) > 1"
# The tables that a migration has locked while it waits for candidates; no row if it does not.
HELD_MEANWHILE = """
    SELECT ARRAY(
        SELECT relation::regclass::text FROM pg_locks AS held JOIN pg_class ON pg_class.oid = relation
        WHERE held.pid = waiting.pid AND granted AND mode = 'AccessExclusiveLock' AND relkind = 'r'
    )
    FROM pg_locks AS waiting JOIN pg_stat_activity USING (pid)
    WHERE application_name = 'provider-registration-migrate' AND datname = current_database()
      AND NOT granted AND relation = 'candidates'::regclass
"""
SHORT_WAIT = 0.02  # seconds; a step gives up after 0.05


@pytest.fixture
async def upgraded(empty_database_url: str) -> str:
    """At a revision whose downgrade drops triggers, which locks the table."""
    await asyncio.to_thread(migrations.upgrade, empty_database_url, "009_list_indexes_and_counts")
    return empty_database_url


@pytest.fixture
async def reader(upgraded: str) -> AsyncIterator[asyncpg.Connection]:
    """A long transaction that has read candidates."""
    connection = await asyncpg.connect(upgraded)
    await connection.execute("BEGIN")
    await connection.execute("SELECT FROM candidates")
    yield connection
    await connection.close()


async def test_nobody_queues_behind_a_step_that_waits_for_a_long_reader(
    upgraded: str, reader: asyncpg.Connection
) -> None:
    migrating = asyncio.create_task(asyncio.to_thread(migrations.downgrade, upgraded, BELOW_COUNTS))
    caller = await asyncpg.connect(upgraded, server_settings={"lock_timeout": "100ms"})  # as a registration
    loop = asyncio.get_running_loop()
    waits = []
    while sum(wait > SHORT_WAIT for wait in waits) < 3:  # it tried, gave up, and tried again
        begun = loop.time()
        await caller.execute("SELECT FROM candidates LIMIT 1")
        waits.append(loop.time() - begun)
        await asyncio.sleep(0.02)
        assert not migrating.done(), "it did not wait for the reader"

    await reader.execute("ROLLBACK")

    await migrating
    assert await asyncio.to_thread(migrations.current, upgraded) == BELOW_COUNTS
    await caller.close()


@pytest.mark.parametrize("revision", STEPS_OF_LOG)
async def test_no_command_of_an_upgrade_keeps_a_table_locked_during_the_next(
    empty_database_url: str, connection: asyncpg.Connection, revision: str
) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url, REVISIONS[REVISIONS.index(revision) - 1])
    await connection.execute(WATCH_LOCKS)

    await asyncio.to_thread(migrations.upgrade, empty_database_url, revision)

    assert await connection.fetchval("SELECT count(*) FROM pg_event_trigger WHERE evtname = 'watch_locks'") == 1
    assert await connection.fetch(HELD_LONGER) == []


@pytest.mark.parametrize("revision", ["020_candidate_events", "023_notifications"])
async def test_a_downgrade_that_waits_for_candidates_locks_nothing_else(
    empty_database_url: str, connection: asyncpg.Connection, revision: str
) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url, revision)
    reader = await asyncpg.connect(empty_database_url)
    await reader.execute("BEGIN; SELECT FROM candidates")
    below = REVISIONS[REVISIONS.index(revision) - 1]
    migrating = asyncio.create_task(asyncio.to_thread(migrations.downgrade, empty_database_url, below))
    while (held := await connection.fetchval(HELD_MEANWHILE)) is None:
        assert not migrating.done(), "it did not wait for the reader"
        await asyncio.sleep(0.01)

    await reader.close()
    await migrating

    assert held == []
    assert await asyncio.to_thread(migrations.current, empty_database_url) == below


@pytest.mark.usefixtures("reader")
async def test_a_destination_that_is_counted_is_not_tried_again(upgraded: str) -> None:
    with pytest.raises(MigrationError, match="stayed locked for too long; run the same command again"):
        await asyncio.to_thread(migrations.downgrade, upgraded, "-1")

    assert await asyncio.to_thread(migrations.current, upgraded) == "009_list_indexes_and_counts"


@pytest.fixture
async def serving_role(empty_database_url: str) -> AsyncIterator[str]:
    """A service role at the schema before counts, and its URL."""
    name = f"test_{uuid4().hex}"
    owner = await asyncpg.connect(empty_database_url)
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'choose-another'")
    await asyncio.to_thread(migrations.upgrade, empty_database_url, BELOW_COUNTS)
    url = DatabaseSettings(_env_file=None, database_url=empty_database_url).database_url
    database = Database(url, pool_size=1)
    await grant_service(database, name)
    await database.close()
    address = urlsplit(empty_database_url).netloc.rpartition("@")[2]
    yield urlsplit(empty_database_url)._replace(netloc=f"{name}:choose-another@{address}").geturl()
    await owner.execute(f"DROP OWNED BY {name}")
    await owner.execute(f"DROP ROLE {name}")
    await owner.close()


async def test_the_serving_role_writes_before_and_after_the_counts_come(
    empty_database_url: str, serving_role: str
) -> None:
    service = await asyncpg.connect(serving_role)
    await service.execute(REGISTER, "before")

    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    await service.execute(REGISTER, "after")  # no one has granted anything since
    assert await service.fetchval("SELECT sum(count) FROM candidate_counts WHERE product = ''") == 2
    await service.close()


OF_OLDER_RELEASE = """
    SELECT id, company_name, contact_email, phone, location, version, updated_at FROM candidates ORDER BY id
"""
MANY = 2500  # candidates: more than two batches


@pytest.fixture
async def filled(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database of the release before search texts, with candidates."""
    await asyncio.to_thread(migrations.upgrade, empty_database_url, BEFORE_SEARCH_TEXT)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        """
        INSERT INTO candidates (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day)
        SELECT 'Ромашка', i || '@obsthof.example', '+34 963 555 017', '{apples}', 1, 1 FROM generate_series(1, $1) AS i
    """.replace("$1", str(MANY))
    )
    yield connection
    await connection.close()


async def test_search_texts_are_filled_while_an_older_release_writes(
    empty_database_url: str, filled: asyncpg.Connection
) -> None:
    before = {row["id"]: row for row in await filled.fetch(OF_OLDER_RELEASE)}
    migrating = asyncio.create_task(asyncio.to_thread(migrations.upgrade, empty_database_url))
    rename = "UPDATE candidates SET company_name = 'Muñoz' WHERE id = $1"
    renamed, added, ids = set(), 0, iter(before)
    while not migrating.done():
        await filled.execute(REGISTER, f"added-{added}")
        added += 1
        renamed.add(candidate := next(ids))
        await filled.execute(rename, candidate)
        await asyncio.sleep(0.005)
    await migrating
    renamed.add(last := next(ids))
    await filled.execute(rename, last)  # an older process continues for a while
    assert await filled.fetchval("SELECT search_text FROM candidates WHERE id = $1", last) is None

    database = Database(DatabaseSettings(_env_file=None, database_url=empty_database_url).database_url, pool_size=1)
    await filler_of_search_texts(database).fill_all()
    await database.close()

    rows = await filled.fetch("SELECT search_text, " + OF_OLDER_RELEASE.removeprefix("\n    SELECT "))
    assert len(rows) == MANY + added
    assert renamed >= {row["id"] for row in rows if row["company_name"] == "Muñoz"}
    for row in rows:
        said = [row[column] for column in ("company_name", "contact_email", "phone", "location")]
        assert row["search_text"] == search_text(*said)
        assert row["version"] == (2 if row["id"] in renamed else 1)
        if row["id"] in before and row["id"] not in renamed:
            assert row["updated_at"] == before[row["id"]]["updated_at"]


async def test_an_older_release_goes_on_while_search_texts_go_again(
    empty_database_url: str, filled: asyncpg.Connection
) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url)
    migrating = asyncio.create_task(asyncio.to_thread(migrations.downgrade, empty_database_url, BEFORE_SEARCH_TEXT))
    added = 0
    while not migrating.done():
        await filled.execute(REGISTER, f"added-{added}")
        added += 1
        await filled.execute("UPDATE candidates SET location = 'Köln' WHERE contact_email = '1@obsthof.example'")
        await asyncio.sleep(0.005)
    await migrating

    rows = await filled.fetch(OF_OLDER_RELEASE)
    assert len(rows) == MANY + added
    assert sum(row["version"] for row in rows) == len(rows) + added


@pytest.fixture
async def owner_of_tables(empty_database_url: str, filled: asyncpg.Connection) -> AsyncIterator[str]:
    """The URL of a role that owns the tables but not the database."""
    name = f"test_{uuid4().hex}"
    await filled.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'choose-another'")
    await filled.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
    for table in await filled.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        await filled.execute(f"ALTER TABLE {table[0]} OWNER TO {name}")
    for function in await filled.fetch(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    ):
        await filled.execute(f"ALTER FUNCTION {function[0]} OWNER TO {name}")
    await filled.execute(f"ALTER VIEW unfinished_approvals OWNER TO {name}")
    address = urlsplit(empty_database_url).netloc.rpartition("@")[2]
    yield urlsplit(empty_database_url)._replace(netloc=f"{name}:choose-another@{address}").geturl()
    await filled.execute(f"DROP OWNED BY {name}")
    await filled.execute(f"DROP ROLE {name}")


async def test_a_role_that_may_not_create_the_extension_continues_once_it_exists(
    filled: asyncpg.Connection, owner_of_tables: str
) -> None:
    with pytest.raises(MigrationError, match="CREATE EXTENSION pg_trgm"):
        await asyncio.to_thread(migrations.upgrade, owner_of_tables)
    assert await asyncio.to_thread(migrations.current, owner_of_tables) == BEFORE_SEARCH_TEXT

    await filled.execute("CREATE EXTENSION pg_trgm")

    await asyncio.to_thread(migrations.upgrade, owner_of_tables)
    assert await filled.fetchval("SELECT count(*) FROM candidates WHERE search_text IS NULL") == 0
