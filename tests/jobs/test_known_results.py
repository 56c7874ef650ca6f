"""Items whose result is known without work get it many at a time, in their order, and once."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from sqlalchemy import event

from provider_registration.jobs import runner as module
from provider_registration.jobs.models import JobState, Result

from .conftest import ADMIN, a_job, create

DONE, REFUSED = Result("approved"), Result.failed("candidate-not-pending")


def knowing(*not_known):
    """Knows the results of all items but some, and remembers which ones it was asked about."""

    async def known(_job, items):
        known.asked.append([item.number for item in items])
        return {item.number: REFUSED for item in items if item.number not in not_known}

    known.asked = []
    return known


async def results(jobs, job_id):
    items, _ = await jobs.items(job_id, limit=5000)
    return [(item.status, item.code) for item in items]


async def test_only_the_others_are_worked_on_and_it_takes_few_statements(
    jobs, working, ended, jobs_database, connection
):
    new, worked, statements = a_job(1000), [], []
    known = knowing(0, 300, 301, 302, 303, 304, 700, 999)
    await create(jobs, new)

    async def work(_job, item):
        worked.append(item.number)
        return DONE

    event.listen(jobs_database.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    async with working(work, known=known):
        job = await ended(new.job_id)

    assert worked == [0, 300, 301, 302, 303, 304, 700, 999]
    assert (job.state, job.done, job.summary) == (JobState.DONE, 1000, {"approved": 8, "candidate-not-pending": 992})
    found = await results(jobs, new.job_id)
    assert [number for number, result in enumerate(found) if result == ("approved", None)] == worked
    assert set(found) == {("approved", None), ("failed", "candidate-not-pending")}
    assert len(statements) < 150
    assert max(map(len, known.asked)) == module.KNOWN_AT_ONCE


async def test_cancelling_leaves_them_without_a_result(jobs, working, connection):
    new, starts, go_on = a_job(50), [], asyncio.Event()
    await create(jobs, new)

    async def work(_job, item):
        starts.append(item.number)
        await go_on.wait()
        return DONE

    async with working(work, known=knowing(*range(module.ITEMS_AT_ONCE))):
        while len(starts) < module.ITEMS_AT_ONCE:
            await asyncio.sleep(0.01)
        await jobs.cancel(new.job_id, actor=ADMIN)
        go_on.set()
        while await connection.fetchval("SELECT due_at FROM jobs") is not None:
            await asyncio.sleep(0.01)
    left = 50 - module.ITEMS_AT_ONCE
    assert await results(jobs, new.job_id) == [("approved", None)] * module.ITEMS_AT_ONCE + [(None, None)] * left


async def test_a_job_cancelled_while_they_are_looked_up_gets_no_further_result(jobs, working, connection):
    new = a_job(5)
    await create(jobs, new)

    async def known(job, items):
        await jobs.cancel(job.job_id, actor=ADMIN)
        return {item.number: REFUSED for item in items}

    async def work(_job, _item):
        return DONE

    async with working(work, known=known):
        while await connection.fetchval("SELECT due_at FROM jobs") is not None:
            await asyncio.sleep(0.01)
    assert await results(jobs, new.job_id) == [(None, None)] * 5
    assert (await jobs.get(new.job_id)).done == 0


async def test_a_process_that_lost_the_job_records_none(jobs, working, connection):
    new, taken = a_job(5), asyncio.Event()
    await create(jobs, new)

    async def known(_job, items):
        await connection.execute("UPDATE jobs SET claim_id = $1", uuid4())
        taken.set()
        return {item.number: REFUSED for item in items}

    async def work(_job, _item):
        return DONE

    async with working(work, known=known):
        await taken.wait()
        await asyncio.sleep(0.2)
    assert await results(jobs, new.job_id) == [(None, None)] * 5


async def test_an_item_that_was_started_before_is_worked_on(jobs, working, ended, connection):
    new, worked, known = a_job(5), [], knowing()
    await create(jobs, new)
    await connection.execute("UPDATE job_items SET claim_id = $1, attempts = 1 WHERE number = 1", uuid4())
    await connection.execute("UPDATE job_items SET attempts = 1, due_at = now() WHERE number = 3")

    async def work(_job, item):
        worked.append(item.number)
        return DONE

    async with working(work, known=known):
        await ended(new.job_id)
    assert sorted(worked) == [1, 3]
    assert {number for numbers in known.asked for number in numbers} == {0, 2, 4}
