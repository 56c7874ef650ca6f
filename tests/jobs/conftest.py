"""Jobs whose items a test works on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.audit.models import Actor
from provider_registration.db.database import Database
from provider_registration.jobs.models import NewItem, NewJob
from provider_registration.jobs.runner import JobRunner
from provider_registration.jobs.service import JobService

KIND = "tests.count"
ADMIN = Actor.user(uuid4())


async def anybody(_actor):
    return True


def a_job(items=3, **changes):
    """A new job with some items."""
    values = {"kind": KIND, "actor": ADMIN, "items": [NewItem(uuid4(), number) for number in range(items)]}
    return NewJob(uuid4(), **values | changes)


async def create(jobs, new):
    """Create a job in a transaction of its own."""
    async with jobs._database.transaction() as session:
        await jobs.create_in(session, new)
    jobs.wake.set()


@pytest.fixture
async def connection(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def jobs_database(own_database_url):
    url = own_database_url.replace("postgresql://", "postgresql+asyncpg://")
    database = Database(url, pool_size=8, time_limit=10)
    yield database
    await database.close()


@pytest.fixture
def jobs(jobs_database):
    return JobService(jobs_database)


@pytest.fixture
def working(jobs_database):
    """Works on jobs while a block runs, as a process would; yields the event that stops it."""

    @asynccontextmanager
    async def working(work, *, kind=KIND, known=None, may_act=anybody, lease_seconds=30.0):
        runner = JobRunner(
            jobs_database,
            JobService(jobs_database),
            {kind: work},
            known={kind: known} if known else {},
            may_act=may_act,
            lease_seconds=lease_seconds,
        )
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(runner.run()), asyncio.create_task(runner.stop(stopping))]
        try:
            yield stopping
        finally:
            tasks[0].cancel()
            stopping.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    return working


@pytest.fixture
def ended(jobs):
    """Waits until a job has ended, and returns it."""

    async def ended(job_id, seconds=20):
        job = await jobs.wait(job_id, seconds, asyncio.Event())
        assert job.state.has_ended, job
        return job

    return ended
