"""Whatever dies while a file is read or its rows are registered: each row is registered once."""

from __future__ import annotations

from functools import partial

from .kills import IMPORTING
from .many_rows import kill_importers_at


async def test_killed_at_failpoints_imports_are_finished_once_by_other_processes(at_each):
    await at_each({place: partial(_kill_at, place=place) for place in IMPORTING})


async def _kill_at(world, random, *, place):
    return await kill_importers_at(world, [place], random)
