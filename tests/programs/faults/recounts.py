"""Several simultaneous recounts during registrations and decisions: a difference is corrected once."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from .crowds import PATIENT
from .invariants import Findings, conclude
from .world import World

PRODUCT = "apples"  # what the candidates of a world have
HELD_SECONDS = (0.05, 0.3)  # seconds in which the counts are locked: every recount has read them by then
WRITERS = 6

ADD = """
    INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
    SELECT product, 'pending', 0, $1, $1 FROM unnest(ARRAY['', $2]) AS product
    ON CONFLICT (product, status, shard) DO UPDATE
    SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day
"""


async def recount_together(world: World, random: Random, *, recounts: int = 4, writes: int = 18) -> Findings:
    """Make the counts wrong, recount several times at once during writes, and recount once more."""
    replica = await world.start(**PATIENT)
    await world.log_in(replica)
    candidates = await world.register(writes)
    missing = random.choice([20_000, 7, -3])
    await add_to_counts(world, -missing)
    waiting, registered = list(candidates), []

    async def write() -> None:
        while waiting:
            decide = random.choice([world.approve, world.reject])
            response = await decide(replica, waiting.pop())
            assert response is not None, "a decision got no response"
            assert response.status_code == 200, response.text
            registered.extend(await world.register(random.randint(0, 2)))

    writing = [asyncio.create_task(write()) for _ in range(WRITERS)]
    async with world.keeping_counts():
        counting = asyncio.create_task(recount_at_once(world, recounts, missing))
        await asyncio.sleep(random.uniform(*HELD_SECONDS))
    await counting
    await asyncio.gather(*writing)
    return await conclude(world, replica, candidates + registered)  # which recounts


async def add_to_counts(world: World, number: int) -> None:
    """Make the counts of pending candidates wrong."""
    await world.fetch(ADD, number, PRODUCT)


async def recount_at_once(world: World, recounts: int, missing: int) -> None:
    """Recount several times at once; the difference is added once."""
    added: Counter[tuple[str, str]] = Counter()
    for one in await asyncio.gather(*(world.recount() for _ in range(recounts))):
        for key, (number, _tons) in one.items():
            added[key] += number
    wanted = {("", "pending"): missing, (PRODUCT, "pending"): missing} if missing else {}
    assert dict(added) == wanted, f"{recounts} recounts added {dict(added)}, not {wanted}"
