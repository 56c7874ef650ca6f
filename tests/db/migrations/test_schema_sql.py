"""schema.sql, the models in orm.py and the migrations describe one schema."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from provider_registration.db import migrations
from provider_registration.db.orm import Base

ROOT = Path(__file__).parents[3]

# Everything PostgreSQL knows about a schema, except names that it chose and numbers that differ from run to run.
# More than schema_dump.py reads: this detects what it misses.
CATALOGUE = """
    SELECT 'relation' AS kind, relname::text AS name,
        jsonb_build_array(relkind, relpersistence, reloptions, relrowsecurity, relreplident, relacl)::text AS facts
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'column', format('%s.%s', relname, attname),
        jsonb_build_array(row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attnotnull,
            format_type(atttypid, atttypmod), attcollation, attstorage, attcompression, attidentity, attgenerated,
            pg_get_expr(adbin, adrelid), attstattarget, attoptions, attacl)::text
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 'constraint', format('%s.%s', conrelid::regclass, conname),
        jsonb_build_array(contype, condeferrable, condeferred, convalidated, connoinherit,
            pg_get_constraintdef(oid))::text
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT 'index', indexrelid::regclass::text,
        jsonb_build_array(indisvalid, indisready, indislive, indisunique, indisprimary, indimmediate, indisclustered,
            indisreplident, pg_get_indexdef(indexrelid))::text
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'view', relname::text, to_jsonb(pg_get_viewdef(oid))::text
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'
    UNION ALL
    SELECT 'trigger', format('%s.%s', tgrelid::regclass, tgname),
        jsonb_build_array(tgenabled, tgdeferrable, pg_get_triggerdef(oid))::text
    FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', oid::regprocedure::text, jsonb_build_array(pg_get_functiondef(oid), proacl)::text
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'comment', format('%s.%s', objoid::regclass, objsubid), to_jsonb(description)::text
    FROM pg_description JOIN pg_class ON pg_class.oid = objoid AND classoid = 'pg_class'::regclass
    WHERE relnamespace = 'public'::regnamespace
    ORDER BY 1, 2
"""


def test_schema_sql_is_what_the_migrations_make(own_database_url: str) -> None:
    command = (sys.executable, "tests/schema_dump.py", own_database_url)
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == (ROOT / "schema.sql").read_text(), "run: python tests/schema_dump.py > schema.sql"


async def test_schema_sql_makes_the_same_catalogue_as_the_migrations(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute((ROOT / "schema.sql").read_text())
    loaded = await connection.fetch(CATALOGUE)
    assert await asyncio.to_thread(migrations.current, empty_database_url) == migrations.head()

    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    assert loaded == await connection.fetch(CATALOGUE)


async def test_database_made_from_schema_sql_can_be_downgraded_and_upgraded(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute((ROOT / "schema.sql").read_text())
    loaded = await connection.fetch(CATALOGUE)

    await asyncio.to_thread(migrations.downgrade, empty_database_url, "base")
    await asyncio.to_thread(migrations.upgrade, empty_database_url)

    assert loaded == await connection.fetch(CATALOGUE)


async def test_models_describe_the_same_tables_as_the_migrations(
    empty_database_url: str, database_schema: Callable[[str], Awaitable[str]]
) -> None:
    url = empty_database_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()

    from_models = await database_schema(empty_database_url)

    def tables(schema: str) -> list[str]:
        statements = schema.strip().replace(";\nCREATE", ";\n\nCREATE").split("\n\n")
        kinds = ("CREATE TABLE", "CREATE INDEX", "CREATE UNIQUE INDEX", "COMMENT")
        return [sql for sql in statements if sql.startswith(kinds) and "alembic_version" not in sql]

    assert tables(from_models) == tables((ROOT / "schema.sql").read_text())


async def test_alembic_check_finds_nothing(own_database_url: str, alembic: Callable[..., Awaitable]) -> None:
    checked = await alembic("check", DATABASE_URL=own_database_url)

    assert checked.status == 0, checked.errors
    assert "No new upgrade operations detected" in checked.output


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of alembic's folder, to write revisions into."""
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    shutil.copytree(ROOT / "alembic", tmp_path / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def revise(copy: Path, url: str, message: str, *, autogenerate: bool = True) -> str:
    """Write a revision into the copy and return its text."""
    config = Config(copy / "alembic.ini", attributes={migrations.DATABASE_URL: url})
    script = command.revision(config, message, autogenerate=autogenerate)
    assert isinstance(script, Script)
    return Path(script.path).read_text()


async def test_autogenerate_numbers_the_revision_and_finds_nothing(own_database_url: str, copy: Path) -> None:

    revision = await asyncio.to_thread(revise, copy, own_database_url, "Nothing new!")

    number = int((migrations.head() or "").split("_")[0]) + 1
    assert f'revision = "{number:03d}_nothing_new"' in revision
    assert f'down_revision = "{migrations.head()}"' in revision
    assert revision.count("    pass\n") == 2
    assert "op." not in revision
    assert (copy / f"alembic/versions/{number:03d}_nothing_new.py").exists()


async def test_autogenerate_sees_what_differs(own_database_url: str, copy: Path) -> None:
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("""
        ALTER TABLE candidates DROP CONSTRAINT ck_candidates_truck_count, ALTER COLUMN version DROP DEFAULT,
            ALTER COLUMN phone TYPE text;
        DROP INDEX uq_users_email_lower;
        CREATE UNIQUE INDEX uq_users_email_lower ON users (upper(email));
    """)
    await connection.close()

    revision = await asyncio.to_thread(revise, copy, own_database_url, "put back")

    for name in ("ck_candidates_truck_count", "'version'", "'phone'", "uq_users_email_lower"):
        assert name in revision


async def test_revision_name_that_alembic_cannot_store_is_refused(own_database_url: str, copy: Path) -> None:

    with pytest.raises(CommandError, match="longer than 32 characters"):
        await asyncio.to_thread(revise, copy, own_database_url, "x" * 29, autogenerate=False)
