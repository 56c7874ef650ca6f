"""Jobs are worked off once, by whichever process is alive, and stop when asked."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.jobs import runner as module
from provider_registration.jobs.errors import JobDone, JobExists, JobNotFound, TooManyJobs, TryLater
from provider_registration.jobs.models import MAX_ITEMS, JobState, Result
from provider_registration.jobs.service import MAX_UNFINISHED

from .conftest import ADMIN, a_job

DONE = Result("approved")


async def test_every_item_is_worked_on_once_and_the_results_are_in_the_order_asked(jobs, working, ended):
    new, seen = a_job(40, parameters={"reason": "No cold chain"}), []

    async def work(job, item):
        assert job.parameters == {"reason": "No cold chain"}
        await asyncio.sleep(0.02 if item.number % 3 else 0)
        seen.append((item.number, item.candidate_id, item.version))
        return DONE if item.number % 2 else Result.failed("candidate-not-found")

    await jobs.create(new)
    async with working(work), working(work):
        job = await ended(new.job_id)

    assert sorted(seen) == [(number, item.candidate_id, item.version) for number, item in enumerate(new.items)]
    assert (job.state, job.done, job.total) == (JobState.DONE, 40, 40)
    assert job.summary == {"approved": 20, "candidate-not-found": 20}
    items, after = await jobs.items(new.job_id, limit=40)
    assert [(item.number, item.candidate_id) for item in items] == [
        (n, i.candidate_id) for n, i in enumerate(new.items)
    ]
    assert [(item.status, item.code) for item in items[:2]] == [("failed", "candidate-not-found"), ("approved", None)]
    assert after is None


async def test_some_items_are_worked_on_at_once_but_not_many(jobs, working, ended):
    new, at_once, most = a_job(20), 0, 0

    async def work(_job, _item):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return DONE

    await jobs.create(new)
    async with working(work):
        await ended(new.job_id)
    assert most == module.ITEMS_AT_ONCE


async def test_the_parameters_are_deleted_when_the_job_ends(jobs, working, ended, connection):
    new = a_job(1, parameters={"reason": "Mr Meier said so"})

    async def work(_job, _item):
        return DONE

    await jobs.create(new)
    assert "Meier" in await connection.fetchval("SELECT parameters::text FROM jobs")
    async with working(work):
        await ended(new.job_id)
    assert await connection.fetchval("SELECT parameters FROM jobs") is None


async def test_a_process_that_died_is_replaced_and_the_item_that_it_held_is_started_again(
    jobs, working, ended, connection
):
    new, starts = a_job(6), []
    never = asyncio.Event()

    async def hang(_job, item):
        starts.append(item.number)
        await never.wait()

    async def work(_job, item):
        starts.append(item.number)
        return Result("approved") if item.attempts == 1 else Result("rejected")

    await jobs.create(new)
    async with working(hang, lease_seconds=1.0):
        while len(starts) < module.ITEMS_AT_ONCE:
            await asyncio.sleep(0.01)
        await connection.execute(
            "UPDATE jobs SET claim_id = gen_random_uuid(), due_at = clock_timestamp()"
        )  # as if dead
        async with working(work):
            job = await ended(new.job_id)
        never.set()
        await asyncio.sleep(0.1)
    assert job.summary == {"approved": 2, "rejected": 4}
    assert sorted(starts) == sorted([0, 1, 2, 3, *range(6)])
    assert await jobs.get(new.job_id) == job  # the late results of the one that lost the job change nothing


async def test_a_slow_item_keeps_its_lease(jobs, working, ended):
    new, starts = a_job(1), []

    async def work(_job, item):
        starts.append(item.number)
        await asyncio.sleep(1.5)
        return DONE

    await jobs.create(new)
    async with working(work, lease_seconds=0.5), working(work, lease_seconds=0.5):
        await ended(new.job_id)
    assert starts == [0]


async def test_cancelling_stops_before_the_next_item_and_what_was_started_gets_its_result(
    jobs, working, connection, ended
):
    new, starts, go_on = a_job(20, parameters={"reason": "x"}), [], asyncio.Event()

    async def work(_job, item):
        starts.append(item.number)
        await go_on.wait()
        return DONE

    await jobs.create(new)
    async with working(work):
        while len(starts) < module.ITEMS_AT_ONCE:
            await asyncio.sleep(0.01)
        job = await jobs.cancel(new.job_id, actor=ADMIN)
        assert (job.state, job.cancel_reason, job.done) == (JobState.CANCELLED, "asked", 0)
        go_on.set()
        while await connection.fetchval("SELECT due_at FROM jobs") is not None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
    job = await jobs.get(new.job_id)
    assert sorted(starts) == [0, 1, 2, 3]
    assert (job.state, job.done, job.summary) == (JobState.CANCELLED, 4, {"approved": 4})
    assert await connection.fetchval("SELECT parameters FROM jobs") is None
    again = await jobs.cancel(new.job_id, actor=ADMIN)
    assert again == job
    recorded = await connection.fetch("SELECT type, actor_id FROM audit_events ORDER BY id")
    assert [tuple(row) for row in recorded] == [("job.created", ADMIN.id), ("job.cancelled", ADMIN.id)]


async def test_of_a_cancelled_job_whose_process_died_only_the_started_items_are_finished(jobs, working, connection):
    new, starts = a_job(5), []
    await jobs.create(new)
    await connection.execute("UPDATE jobs SET state = 'running', claim_id = gen_random_uuid()")
    await connection.execute(
        "UPDATE job_items SET claim_id = (SELECT claim_id FROM jobs), attempts = 1 WHERE number = 3"
    )
    await jobs.cancel(new.job_id, actor=ADMIN)

    async def work(_job, item):
        starts.append(item.number)
        return DONE

    async with working(work):
        while await connection.fetchval("SELECT due_at FROM jobs") is not None:
            await asyncio.sleep(0.05)
    assert starts == [3]
    assert (await jobs.get(new.job_id)).done == 1


async def test_a_queued_job_is_cancelled_at_once_and_a_done_one_cannot_be(jobs, working, ended, connection):
    queued, done = a_job(2, parameters={"reason": "x"}), a_job(1)
    await jobs.create(queued)
    await jobs.cancel(queued.job_id, actor=ADMIN)
    assert await connection.fetchrow("SELECT parameters, due_at FROM jobs") == (None, None)

    async def work(_job, _item):
        return DONE

    await jobs.create(done)
    async with working(work):
        await ended(done.job_id)
    with pytest.raises(JobDone):
        await jobs.cancel(done.job_id, actor=ADMIN)
    with pytest.raises(JobNotFound):
        await jobs.cancel(uuid4(), actor=ADMIN)


async def test_an_item_that_cannot_be_done_now_is_tried_again_and_gets_its_error_in_the_end(
    jobs, working, ended, monkeypatch
):
    monkeypatch.setattr(module, "WAITS", (0.05,) * 8)
    new = a_job(3)
    attempts = {0: 0, 1: 0, 2: 0}

    async def work(_job, item):
        attempts[item.number] += 1
        if item.number == 0 and attempts[0] < 4:
            raise DatabaseUnavailable
        if item.number == 1:
            raise TryLater("billing-paused")
        if item.number == 2:
            raise TryLater("provider-name-busy", attempts=2)
        return DONE

    await jobs.create(new)
    async with working(work):
        job = await ended(new.job_id)
    assert attempts == {0: 4, 1: module.MAX_ATTEMPTS, 2: 2}
    assert job.summary == {"approved": 1, "billing-paused": 1, "provider-name-busy": 1}


async def test_a_result_is_recorded_once_the_database_responds_again(jobs, working, ended, jobs_database, monkeypatch):
    starts, is_away, statement = [], False, jobs_database.statement

    def responding():
        if is_away:
            raise DatabaseUnavailable
        return statement()

    async def work(_job, item):
        nonlocal is_away
        starts.append(item.number)
        is_away = True
        return DONE

    monkeypatch.setattr(jobs_database, "statement", responding)
    await jobs.create(new := a_job(1))
    async with working(work):
        while not is_away:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        is_away = False
        job = await ended(new.job_id)
    assert (starts, job.summary) == ([0], {"approved": 1})


async def test_items_that_wait_do_not_hold_up_others(jobs, working, ended):
    waiting, other = a_job(1), a_job(1, kind="tests.other")

    async def work(_job, _item):
        raise TryLater("billing-paused", retry_after=60)

    async def work_too(_job, _item):
        return DONE

    await jobs.create(waiting)
    async with working(work), working(work_too, kind="tests.other"):
        await asyncio.sleep(0.5)
        await jobs.create(other)
        await ended(other.job_id)
    assert (await jobs.get(waiting.job_id)).state is JobState.RUNNING


async def test_a_small_job_does_not_wait_for_large_ones(jobs, working, ended):
    large = [a_job(400) for _ in range(3)]
    for each in large:
        await jobs.create(each)

    async def work(_job, item):
        await asyncio.sleep(0.1)
        return DONE

    async with working(work):
        await asyncio.sleep(0.5)
        small = a_job(1)
        await jobs.create(small)
        began = time.monotonic()
        await ended(small.job_id)
    assert time.monotonic() - began < 3 * module.TURN_SECONDS
    assert not (await jobs.get(large[0].job_id)).state.has_ended


async def test_an_unexpected_error_is_tried_again_and_then_is_the_result(jobs, working, ended, monkeypatch, caplog):
    monkeypatch.setattr(module, "WAITS", (0.02,) * 8)

    async def work(_job, _item):
        raise RuntimeError("a secret: 4711")

    await jobs.create(new := a_job(1))
    async with working(work):
        job = await ended(new.job_id)
    assert job.summary == {"internal-error": 1}


async def test_an_item_during_which_the_process_always_dies_ends(jobs, working, ended, connection):
    await jobs.create(new := a_job(1))
    await connection.execute("UPDATE job_items SET attempts = $1, claim_id = gen_random_uuid()", module.MAX_STARTS)

    async def work(_job, _item):
        raise AssertionError

    async with working(work):
        assert (await ended(new.job_id)).summary == {"internal-error": 1}


async def test_a_job_stops_when_who_posted_it_may_not_act_any_more(jobs, working, ended, connection):
    new, starts = a_job(40), []

    async def work(_job, item):
        starts.append(item.number)
        await asyncio.sleep(0.01)
        return DONE

    async def may_act(actor):
        assert actor == ADMIN
        return len(starts) < 10

    await jobs.create(new)
    async with working(work, may_act=may_act):
        job = await ended(new.job_id)
    assert (job.state, job.cancel_reason) == (JobState.CANCELLED, "actor_not_allowed")
    assert 10 <= len(starts) < 20
    reason = "SELECT data ->> 'reason' FROM audit_events WHERE type = 'job.cancelled' AND actor_kind = 'service'"
    assert await connection.fetchval(reason) == "actor_not_allowed"


async def test_a_stop_waits_for_started_items_and_leaves_the_rest_to_other_processes(jobs, working, ended):
    new, starts = a_job(20), []

    async def work(_job, item):
        starts.append(item.number)
        await asyncio.sleep(0.2)
        return DONE

    await jobs.create(new)
    async with working(work):
        while len(starts) < 6:
            await asyncio.sleep(0.01)
    count = len(starts)
    assert (await jobs.get(new.job_id)).done == count < 20
    began = time.monotonic()
    async with working(work):
        await ended(new.job_id)
    assert time.monotonic() - began < 10  # it did not wait for a lease of 30 s
    assert sorted(starts) == list(range(20))


async def test_a_stop_ends_items_that_take_too_long(jobs, working, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    starts, ends = [], []

    async def work(_job, item):
        starts.append(item.number)
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(item.number)

    await jobs.create(new := a_job(2))
    async with asyncio.timeout(20):
        async with working(work, lease_seconds=0.6):
            while len(starts) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    assert sorted(ends) == [0, 1]
    assert (await jobs.get(new.job_id)).done == 0


async def test_a_job_of_a_kind_that_this_release_does_not_know_is_left_to_others(jobs, working, ended):
    new = a_job(1, kind="tests.newer")

    async def work(_job, _item):
        raise AssertionError

    await jobs.create(new)
    async with working(work):
        await asyncio.sleep(0.3)
    assert (await jobs.get(new.job_id)).state is JobState.QUEUED


async def test_there_are_not_too_many_jobs_nor_two_with_one_id(jobs, connection):
    first = a_job(1)
    await jobs.create(first)
    with pytest.raises(JobExists):
        await jobs.create(first)
    for _ in range(MAX_UNFINISHED - 1):
        await jobs.create(a_job(1))
    with pytest.raises(TooManyJobs):
        await jobs.create(a_job(1))
    assert await connection.fetchval("SELECT count(*) FROM jobs") == MAX_UNFINISHED


async def test_jobs_and_results_are_listed_page_by_page(jobs):
    created = []
    for _ in range(5):
        await jobs.create(new := a_job(7))
        created.append(new.job_id)
    first, after = await jobs.page(limit=3)
    second, end = await jobs.page(limit=3, after=after)
    assert [job.job_id for job in (*first, *second)] == created[::-1]
    assert end is None
    items, after = await jobs.items(created[0], limit=4)
    rest, end = await jobs.items(created[0], limit=4, after=after)
    assert [item.number for item in (*items, *rest)] == list(range(7))
    assert end is None


async def test_only_old_jobs_that_ended_are_deleted(jobs, working, ended, connection):
    old, young = a_job(3), a_job(1)
    unfinished, cancelled = a_job(1, kind="tests.other"), a_job(1, kind="tests.other")

    async def work(_job, _item):
        return DONE

    for new in (old, young, unfinished, cancelled):
        await jobs.create(new)
    async with working(work):
        await ended(old.job_id)
        await ended(young.job_id)
    await connection.execute("UPDATE jobs SET created_at = created_at - interval '31 days'")
    await connection.execute("UPDATE jobs SET ended_at = ended_at - interval '31 days' WHERE id = $1", old.job_id)
    await connection.execute(  # but a process still works on its item
        "UPDATE jobs SET state = 'cancelled', cancel_reason = 'asked', ended_at = now() - interval '31 days', "
        "claim_id = gen_random_uuid() WHERE id = $1",
        cancelled.job_id,
    )
    assert not await jobs.prune(30)
    left = {row["id"] for row in await connection.fetch("SELECT id FROM jobs")}
    assert left == {young.job_id, unfinished.job_id, cancelled.job_id}
    assert await connection.fetchval("SELECT count(*) FROM job_items WHERE job_id = $1", old.job_id) == 0


async def test_the_largest_job_is_created_with_all_its_items_in_order(jobs, connection):
    await jobs.create(new := a_job(MAX_ITEMS))
    rows = await connection.fetch("SELECT candidate_id, version FROM job_items ORDER BY number")
    assert [tuple(row) for row in rows] == [(item.candidate_id, item.version) for item in new.items]
