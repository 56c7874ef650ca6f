"""SIGSTOP at every failpoint, longer than the lease, while a second replica takes over; then both finish."""

from __future__ import annotations

import asyncio
from random import Random

from provider_registration.candidates.models import LONGEST_SECONDS

from .invariants import Findings, conclude
from .kills import Contract, Meanwhile, come_to, tried_until_reached
from .world import LEASE_SECONDS, World

# As in the service: after a clock was set back, a lease may end later than any lease can.
IS_LEASED = f"claim_id IS NOT NULL AND next_attempt_at BETWEEN now() AND now() + interval '{LONGEST_SECONDS} s'"
OPEN_TRANSACTIONS_END_AFTER = 15.0  # seconds: the service's idle_in_transaction_session_timeout


@tried_until_reached
async def pause_at(
    world: World,
    failpoint: str,
    contract: Contract,
    random: Random,
    *,
    longer_than_a_transaction: bool = False,
    meanwhile: Meanwhile | None = None,
) -> Findings:
    """Stop a replica at a failpoint, let another one work, and continue the first.

    `meanwhile` runs before the other one is started.

    Stopped in the middle of a transaction, it keeps its locks, so that nobody takes over until PostgreSQL ends the
    transaction: `longer_than_a_transaction` waits for that.
    """
    await world.billing.set(honour_idempotency_key=contract.honours_keys)
    candidates = await world.register(random.randint(1, 3))
    paused, foreign = await come_to(world, failpoint, contract, candidates, random, action="stop")
    await world.billing.fail("none")
    if meanwhile is not None:
        await meanwhile()
    other = await world.start("other", **contract.settings)
    if longer_than_a_transaction:
        await asyncio.sleep(OPEN_TRANSACTIONS_END_AFTER)
    await world.until_count(IS_LEASED, candidates, 0, 4 * LEASE_SECONDS)
    await asyncio.sleep(random.uniform(0.0, LEASE_SECONDS))  # the failpoint of the other one when the first continues
    paused.continue_()
    await world.stop(paused)
    return await conclude(world, other, candidates, foreign=foreign, at_most_one_request=not contract.retries_ambiguous)
