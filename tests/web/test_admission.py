"""Which requests start in which iteration of the event loop, and how many connections each IP address may have."""

from __future__ import annotations

import asyncio

from uvicorn.server import ServerState

from provider_registration.web.admission import MAX_STARTED_PER_ITERATION, Admission


async def turns_of(start, count):
    """The iteration of the loop in which each of `count` simultaneous requests started."""
    began, turn, loop = [], 0, asyncio.get_running_loop()

    def next_turn():
        nonlocal turn
        turn += 1
        if len(began) < count:
            loop.call_soon(next_turn)

    loop.call_soon(next_turn)
    for _ in range(count):
        start(lambda: began.append(turn), at_once=False)
    while len(began) < count:
        await asyncio.sleep(0)
    return began


async def test_a_few_of_many_requests_start_in_each_iteration():
    began = await turns_of(Admission().start, 3 * MAX_STARTED_PER_ITERATION + 1)

    assert began[0] == 0  # a single request does not wait
    assert max(map(began.count, began)) == MAX_STARTED_PER_ITERATION
    assert began == sorted(began)
    assert began[-1] == 3


async def test_a_probe_does_not_wait_for_a_crowd():
    admission, began = Admission(), []
    for number in range(100):
        admission.start(lambda number=number: began.append(number), at_once=False)
    admission.start(lambda: began.append("probe"), at_once=True)

    assert began == [*range(MAX_STARTED_PER_ITERATION), "probe"]


async def test_a_request_after_a_crowd_does_not_wait():
    admission = Admission()
    await turns_of(admission.start, 3 * MAX_STARTED_PER_ITERATION)
    await asyncio.sleep(0)

    assert await turns_of(admission.start, 2) == [0, 0]


async def test_an_address_without_a_connection_is_forgotten():
    admission = Admission()
    for _ in range(2):
        admission.connections["192.0.2.7"] += 1
    admission.leave("192.0.2.7")
    assert admission.connections["192.0.2.7"] == 1

    admission.leave("192.0.2.7")

    assert not admission.connections


def test_each_server_counts_for_itself():
    one, other = ServerState(), ServerState()

    assert Admission.of(one) is Admission.of(one)
    assert Admission.of(one) is not Admission.of(other)
