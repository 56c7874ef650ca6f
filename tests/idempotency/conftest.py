"""Shared by the tests of idempotency keys."""

from __future__ import annotations

from contextlib import asynccontextmanager

import asyncpg
import pytest

from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings


@pytest.fixture
async def pool(migrated_database_url):
    """The shared database, as the service uses it."""
    database = Database(DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url, pool_size=4)
    yield database
    await database.close()


@pytest.fixture
def holding(migrated_database_url):
    """Holds an open transaction that has executed a statement; it is rolled back at the end of the block."""

    @asynccontextmanager
    async def holding(statement, *values):
        connection = await asyncpg.connect(migrated_database_url)
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(statement, *values)
            yield
        finally:
            await transaction.rollback()
            await connection.close()

    return holding
