"""Whoever dies while events are numbered: each has one position and one delivery, and comes once in the feed."""

from __future__ import annotations

import pytest

from tests.pgbouncer import PROGRAM

from .event_log import PLACES, kill_dispatchers_at, leave_transactions_open


async def test_killed_at_any_point_a_dispatcher_leaves_a_complete_log(at_each, random):
    places = [*PLACES[:3], random.choice(PLACES[3:])]  # the full run tests them all
    await at_each(
        {
            place: lambda world, random, place=place: kill_dispatchers_at(world, place, random, kills=1)
            for place in places
        }
    )


@pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer")
async def test_transactions_left_open_hold_no_positions_up_through_pgbouncer(world, random):
    findings = await leave_transactions_open(world, random, seconds=2, pooled=True)

    assert not findings.problems
