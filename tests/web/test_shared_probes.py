"""Simultaneous probes share one query to the database."""

from __future__ import annotations

import asyncio

from provider_registration.db.revisions import Schema, SchemaState
from provider_registration.health.readiness import Readiness


class SlowDatabase:
    """Counts its calls, and returns when the test allows it."""

    def __init__(self):
        self.asked = 0
        self.answers = asyncio.Event()

    async def ping(self):
        self.asked += 1
        await self.answers.wait()
        return Schema(SchemaState.CURRENT)


async def test_a_crowd_of_probes_asks_the_database_once():
    database = SlowDatabase()
    readiness = Readiness(database)
    probes = [asyncio.create_task(readiness.find_schema()) for _ in range(60)]
    await asyncio.sleep(0)
    probes.pop().cancel()
    await asyncio.sleep(0)
    database.answers.set()

    assert {schema.state for schema in await asyncio.gather(*probes)} == {SchemaState.CURRENT}
    assert database.asked == 1
    await readiness.find_schema()
    assert database.asked == 2
