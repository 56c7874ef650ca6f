"""A repeated request gets the same response, wherever the process that did it was killed."""

from __future__ import annotations

from functools import partial

from .repeats import PLACES_OF_REPEATS, repeat_after_kill_at


async def test_killed_before_it_responded_a_request_can_be_repeated(at_each, random):
    places = random.sample(PLACES_OF_REPEATS, 4)  # the full run tests them all
    await at_each({place: partial(repeat_after_kill_at, place=place) for place in places})
