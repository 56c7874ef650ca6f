"""Whatever dies while jobs are worked on: each candidate is decided once, and the result says so."""

from __future__ import annotations

from functools import partial

from .kills import ASKING, WORKING
from .many_decisions import kill_workers_at

DECIDED = "job.before-record"  # but the job does not know


async def test_killed_at_failpoints_jobs_are_finished_once_by_other_processes(at_each, random):
    places = {DECIDED, random.choice(WORKING), random.choice(ASKING)}  # the full run tests them all
    await at_each({place: partial(_kill_at, place=place) for place in places})


async def _kill_at(world, random, *, place):
    return await kill_workers_at(world, [place], random)
