"""Batching: which callers share a batch, which fail alone, and that none waits forever."""

from __future__ import annotations

import asyncio

import pytest

from provider_registration.db import batching
from provider_registration.db.batching import MAX_ITEMS, Batcher, Sharer
from provider_registration.db.database import DatabaseUnavailable, RowLocked
from provider_registration.observability.logs import request_id_var


class Work:
    """Doubles numbers, batch by batch, when the test allows it; `batches` records its arguments."""

    def __init__(self):
        self.batches = []
        self.is_let = asyncio.Event()
        self.is_let.set()
        self.error = None

    async def __call__(self, items):
        self.batches.append(list(items))
        await self.is_let.wait()
        if self.error:
            raise self.error
        if "bad" in items:
            raise ValueError("bad")
        if "held" in items:
            raise RowLocked
        return [2 * item for item in items]


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def batcher(work):
    return Batcher(work, time_limit=5)


async def begin(batcher, *items):
    """Call it for each item; return when all calls have started."""
    tasks = [asyncio.create_task(batcher.do(item)) for item in items]
    await asyncio.sleep(0.01)
    return tasks


async def test_a_caller_who_is_alone_does_not_wait(batcher, work):
    assert await batcher.do(1) == 2
    assert await batcher.do(2) == 4
    assert work.batches == [[1], [2]]


async def test_concurrent_callers_share_a_batch(batcher, work):
    assert await asyncio.gather(*await begin(batcher, 1, 2, 3)) == [2, 4, 6]
    assert work.batches == [[1, 2, 3]]


async def test_callers_during_a_batch_share_the_next_one(batcher, work):
    work.is_let.clear()
    tasks = await begin(batcher, 1) + await begin(batcher, 2, 3)
    assert work.batches == [[1]]

    work.is_let.set()

    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert work.batches == [[1], [2, 3]]


async def test_nothing_begins_in_the_last_part_of_its_callers_time(batcher, work, monkeypatch):
    work.is_let.clear()
    [first] = await begin(batcher, 1)
    [second] = await begin(batcher, 2)
    monkeypatch.setattr(batching, "LAST_SHARE", 1.0)  # all of it

    work.is_let.set()

    assert await first == 2
    with pytest.raises(DatabaseUnavailable):
        await second
    assert work.batches == [[1]]


async def test_a_batch_has_an_end(batcher, work):
    tasks = await begin(batcher, *range(2 * MAX_ITEMS + 1))

    assert await asyncio.gather(*tasks) == [2 * number for number in range(2 * MAX_ITEMS + 1)]
    assert [len(batch) for batch in work.batches] == [MAX_ITEMS, MAX_ITEMS, 1]


async def test_a_bad_item_fails_alone(batcher, work):
    tasks = await begin(batcher, 1, "bad", 3)

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [results[0], type(results[1]), results[2]] == [2, ValueError, 6]
    assert work.batches == [[1, "bad", 3], [1], ["bad"], [3]]


async def test_nothing_is_repeated_for_callers_who_were_refused_meanwhile(work, monkeypatch):
    monkeypatch.setattr(batching, "MAX_SINGLE_ITEMS", 1)
    batcher = Batcher(work, time_limit=0.2)
    work.error = ValueError()
    work.is_let.clear()
    tasks = await begin(batcher, 1, 2, 3)
    await asyncio.wait(tasks)  # each waited as long as it may

    work.is_let.set()
    await asyncio.sleep(0.01)

    assert {type(task.exception()) for task in tasks} == {DatabaseUnavailable}
    assert work.batches == [[1, 2, 3]]


async def test_an_outage_is_everyones_and_nothing_is_repeated(batcher, work):
    work.error = DatabaseUnavailable()

    errors = await asyncio.gather(*await begin(batcher, 1, 2), return_exceptions=True)

    assert [type(error) for error in errors] == [DatabaseUnavailable, DatabaseUnavailable]
    assert errors[0] is not errors[1]
    assert work.batches == [[1, 2]]
    work.error = None
    assert await batcher.do(3) == 6


async def test_only_callers_of_a_locked_row_fail_and_the_next_one_at_once(work):
    batcher = Batcher(work, time_limit=5, key=str)

    results = await asyncio.gather(*await begin(batcher, 1, "held", 3, "held"), return_exceptions=True)
    again = await asyncio.gather(*await begin(batcher, 4, "held"), return_exceptions=True)

    assert [results[0], type(results[1]), results[2], type(results[3])] == [2, RowLocked, 6, RowLocked]
    assert sorted(map(str, work.batches[1:-1])) in (["['held']", "[1]", "[3]"], ["['held']", "['held']", "[1]", "[3]"])
    assert [again[0], type(again[1])] == [8, RowLocked]
    assert work.batches[-1] == [4]


async def test_a_locked_row_is_tried_again_after_a_while(work, monkeypatch):
    monkeypatch.setattr(batching, "LOCKED_SECONDS", 0.05)
    batcher = Batcher(work, time_limit=5, key=str)
    with pytest.raises(RowLocked):
        await batcher.do("held")
    await asyncio.sleep(0.06)

    with pytest.raises(RowLocked):
        await batcher.do("held")

    assert work.batches == [["held"], ["held"]]


async def test_a_caller_who_leaves_before_their_batch_is_not_in_it(batcher, work):
    work.is_let.clear()
    first, leaving, last = await begin(batcher, 1) + await begin(batcher, 2, 3)

    leaving.cancel()
    await asyncio.sleep(0)
    work.is_let.set()

    assert await asyncio.gather(first, last) == [2, 6]
    assert work.batches == [[1], [3]]


@pytest.mark.parametrize("error", [None, DatabaseUnavailable(), ValueError()])
async def test_a_caller_who_leaves_during_a_batch_does_not_affect_others(batcher, work, error):
    work.is_let.clear()
    leaving, staying = await begin(batcher, 1, 2)

    leaving.cancel()
    await asyncio.sleep(0)
    work.error = error
    work.is_let.set()
    [result] = await asyncio.gather(staying, return_exceptions=True)

    assert result == 4 if error is None else type(result) is type(error)
    work.error = None
    assert await batcher.do(5) == 10


async def test_too_many_are_refused_at_once_and_the_others_are_served(batcher, work, monkeypatch):
    monkeypatch.setattr(batching, "MAX_WAITING", 3)
    work.is_let.clear()
    tasks = await begin(batcher, 0) + await begin(batcher, 1, 2, 3)

    with pytest.raises(DatabaseUnavailable):
        await batcher.do(4)

    work.is_let.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6]


async def test_everyone_waits_as_long_as_the_others(work):
    batcher = Batcher(work, time_limit=0.2)
    work.is_let.clear()
    loop = asyncio.get_running_loop()

    async def wait():
        began = loop.time()
        with pytest.raises(DatabaseUnavailable):
            await batcher.do(1)
        return loop.time() - began

    waits = []
    for _ in range(4):  # the first one's batch is running, the others wait for it
        waits.append(asyncio.create_task(wait()))
        await asyncio.sleep(0.05)

    assert all(0.19 < waited < 0.3 for waited in await asyncio.gather(*waits))
    work.is_let.set()
    assert await batcher.do(3) == 6


async def test_a_caller_after_refused_ones_does_not_wait_forever(work):
    batcher = Batcher(work, time_limit=0.05)
    work.is_let.clear()
    with pytest.raises(DatabaseUnavailable):
        await batcher.do(1)

    async with asyncio.timeout(10):
        with pytest.raises(DatabaseUnavailable):
            await batcher.do(2)


async def test_no_caller_waits_forever(work):
    batcher = Batcher(work, time_limit=0.05)
    work.is_let.clear()
    tasks = await begin(batcher, 1) + await begin(batcher, 2)

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [DatabaseUnavailable, DatabaseUnavailable]
    work.is_let.set()
    assert await batcher.do(3) == 6


async def test_no_caller_waits_for_a_batch_that_was_cancelled(batcher, work):
    work.is_let.clear()
    tasks = await begin(batcher, 1) + await begin(batcher, 2)

    batcher._running.cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 3)

    assert [type(result) for result in results] == [DatabaseUnavailable, DatabaseUnavailable]
    work.is_let.set()
    assert await batcher.do(3) == 6


async def test_results_that_do_not_fit_the_items_are_a_fault_for_everyone():
    async def lose_one(items):
        return items[1:]

    batcher = Batcher(lose_one, time_limit=5)

    results = await asyncio.gather(*await begin(batcher, 1, 2), return_exceptions=True)

    assert {type(result) for result in results} == {ValueError}


async def test_what_a_batch_logs_has_no_callers_request_id():
    async def request_ids(items):
        return [request_id_var.get()] * len(items)

    request_id_var.set("the caller's")
    try:
        assert await Batcher(request_ids, time_limit=5).do(1) is None
    finally:
        request_id_var.set(None)


class Looking:
    """Looks up items when the test allows it; `asked` records its arguments."""

    def __init__(self):
        self.asked = []
        self.is_let = asyncio.Event()

    async def __call__(self, what):
        self.asked.append(what)
        await self.is_let.wait()
        if what == "bad":
            raise ValueError(what)
        return f"{what}, look {len(self.asked)}"


async def test_equal_items_share_one_computation_and_others_do_not_wait():
    look = Looking()
    sharer = Sharer(look, time_limit=5)
    tasks = await begin(sharer, "a", "a", "b")
    assert look.asked == ["a", "b"]

    look.is_let.set()

    assert await asyncio.gather(*tasks) == ["a, look 2", "a, look 2", "b, look 2"]


async def test_a_later_caller_gets_a_later_result():
    look = Looking()
    sharer = Sharer(look, time_limit=5)
    first = await begin(sharer, "a")
    second = await begin(sharer, "a", "a")
    assert look.asked == ["a"]

    look.is_let.set()

    assert await asyncio.gather(*first, *second) == ["a, look 1", "a, look 2", "a, look 2"]
    assert await sharer.do("a") == "a, look 3"


async def test_an_error_is_shared_too_and_nothing_is_kept_of_what_is_over():
    look = Looking()
    sharer = Sharer(look, time_limit=5)
    tasks = await begin(sharer, "bad", "bad", "a")
    tasks[2].cancel()
    look.is_let.set()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [ValueError, ValueError, asyncio.CancelledError]
    assert sharer._batchers == {}
