"""How migrations are run: from a program, from the command line, without a database, two at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from provider_registration.db import migrations
from provider_registration.db.migrations import MigrationError
from provider_registration.db.revisions import REQUIRED_REVISION, REVISIONS

ROOT = Path(__file__).parents[3]
Program = Callable[..., Awaitable]


async def test_upgrade_works_inside_a_running_event_loop(empty_database_url: str) -> None:
    migrations.upgrade(empty_database_url)

    assert migrations.current(empty_database_url) == migrations.head()


def test_the_code_knows_every_revision_and_needs_the_newest() -> None:
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))

    assert [step.revision for step in script.walk_revisions()] == list(reversed(REVISIONS))
    assert migrations.head() == REQUIRED_REVISION


async def test_upgrades_in_two_threads_take_turns(empty_database_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrations.upgrade, empty_database_url) for _ in range(2)))

    assert await asyncio.to_thread(migrations.current, empty_database_url) == migrations.head()


async def test_two_processes_that_upgrade_at_once_both_succeed(empty_database_url: str, alembic: Program) -> None:
    command = ("upgrade", "head")

    first, second = await asyncio.gather(*(alembic(*command, DATABASE_URL=empty_database_url) for _ in range(2)))

    assert (first.status, second.status) == (0, 0), first.errors + second.errors
    steps = (first.errors + second.errors).count("Running upgrade")
    assert steps == len(list((ROOT / "alembic/versions").glob("*.py")))


async def test_upgrade_waits_while_another_process_migrates(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    key = int.from_bytes(b"provregs", "big")
    await connection.execute("SELECT pg_advisory_lock($1)", key)
    upgrade = asyncio.create_task(asyncio.to_thread(migrations.upgrade, empty_database_url))
    await asyncio.sleep(3 * migrations.LOCK_POLL)
    assert not upgrade.done()
    assert await asyncio.to_thread(migrations.current, empty_database_url) is None

    await connection.execute("SELECT pg_advisory_unlock($1)", key)

    await upgrade
    assert await asyncio.to_thread(migrations.current, empty_database_url) == migrations.head()


async def test_upgrade_does_not_wait_forever(
    empty_database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", migrations.LOCK_POLL)
    await connection.execute("SELECT pg_advisory_lock($1)", int.from_bytes(b"provregs", "big"))

    with pytest.raises(MigrationError, match="Another process has been migrating this database"):
        await asyncio.to_thread(migrations.upgrade, empty_database_url)


async def execute_each(connection: asyncpg.Connection, sql: str) -> None:
    """Execute alembic's statements one at a time, as psql does."""
    for statement in sql.strip().split(";\n\n"):
        await connection.execute(statement)


async def test_sql_written_without_a_database_makes_the_same_schema(
    connection: asyncpg.Connection,
    empty_database_url: str,
    alembic: Program,
    database_schema: Callable[[str], Awaitable[str]],
) -> None:
    written = await alembic("upgrade", "head", "--sql")
    assert written.status == 0, written.errors

    await execute_each(connection, written.output)

    assert await database_schema(empty_database_url) == (ROOT / "schema.sql").read_text()

    written = await alembic("downgrade", "head:base", "--sql")
    assert written.status == 0, written.errors
    await execute_each(connection, written.output)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row[0] for row in tables] == ["alembic_version"]


async def test_command_line_names_the_variable_that_is_missing(alembic: Program, tmp_path: Path) -> None:
    finished = await alembic("-c", str(ROOT / "alembic.ini"), "upgrade", "head", cwd=tmp_path)

    assert finished.status != 0
    assert "DATABASE_URL is not set" in finished.errors
    assert "Traceback" not in finished.errors


async def test_database_that_cannot_be_reached_is_a_sentence(empty_database_url: str) -> None:
    nowhere = "postgresql://user:hidden-word@127.0.0.1:1/nowhere"
    for work in (migrations.upgrade, migrations.current):
        with pytest.raises(MigrationError, match="cannot be reached") as raised:
            await asyncio.to_thread(work, nowhere)
        assert "hidden-word" not in str(raised.value)
    with pytest.raises(MigrationError, match=r'cannot be reached: database ".*_gone" does not exist'):
        await asyncio.to_thread(migrations.current, f"{empty_database_url}_gone")


async def test_unknown_revision_is_a_sentence(empty_database_url: str) -> None:
    with pytest.raises(MigrationError, match="999_nonesuch"):
        await asyncio.to_thread(migrations.upgrade, empty_database_url, "999_nonesuch")


async def test_program_keeps_its_own_logging(empty_database_url: str) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    ours = logging.getLogger("provider_registration.candidates")

    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    assert (root.handlers, root.level, ours.disabled) == (handlers, level, False)


def test_alembic_folder_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "lib/python/site-packages/provider_registration/db/migrations.py"
    monkeypatch.setattr(migrations, "__file__", str(installed))
    monkeypatch.chdir(ROOT)
    assert migrations.find_config() == ROOT / "alembic.ini"

    monkeypatch.chdir(tmp_path)
    with pytest.raises(MigrationError, match="run this in their folder"):
        migrations.find_config()
