"""Unexpected contents of alembic_version: every command prints a sentence, never a traceback."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from click.testing import CliRunner

from provider_registration import cli
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.health.readiness import Readiness
from provider_registration.settings import DatabaseSettings

HEAD = migrations.head()
CONTENTS = {
    "empty": "DELETE FROM alembic_version",
    "no table": "DROP TABLE alembic_version",
    "two revisions": "INSERT INTO alembic_version VALUES ('014_search_indexes')",
    "a known and an unknown one": "INSERT INTO alembic_version VALUES ('999_of_the_future')",
    "an unknown one": "UPDATE alembic_version SET version_num = '999_of_the_future'",
    "an older one than the tables": "UPDATE alembic_version SET version_num = '014_search_indexes'",
}


async def run(url: str, *command: str) -> tuple[int, str]:
    environment = {"DATABASE_URL": url, "JWT_SECRET_KEY": None, "BILLING_SERVICE_URL": None}
    finished = await asyncio.to_thread(CliRunner().invoke, cli.main, list(command), env=environment)
    assert finished.exception is None or isinstance(finished.exception, SystemExit), finished.exception
    return finished.exit_code, finished.output


@pytest.mark.parametrize("contents", CONTENTS.values(), ids=CONTENTS)
async def test_odd_contents_are_said_in_a_sentence(own_database_url: str, contents: str) -> None:
    connection = await asyncpg.connect(own_database_url)
    await connection.execute(contents)
    await connection.close()
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)

    checked, said = await run(own_database_url, "check")
    schema = await Readiness(database).find_schema()
    migrated, sentence = await run(own_database_url, "migrate")
    await database.close()

    assert checked == 1  # the settings are missing, too
    [line] = [line for line in said.splitlines() if " schema: " in line]
    assert schema is not None
    assert str(schema) in line
    assert line.startswith("ok") == (schema.revision == "999_of_the_future")
    assert "Traceback" not in sentence
    assert len(sentence.splitlines()) == 1 or migrated == 0
    assert migrated == 0 or "alembic_version" in sentence or "999_of_the_future" in sentence
