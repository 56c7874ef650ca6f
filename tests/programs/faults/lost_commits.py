"""Commits whose acknowledgement is lost: their outcome is unknown, and the approval is still finished once."""

from __future__ import annotations

from random import Random
from urllib.parse import urlsplit

from .acknowledgement_proxy import AcknowledgementProxy
from .invariants import Findings, conclude
from .kills import Contract, leave_intents
from .world import World

# A part of a statement of each transaction.
TRANSACTIONS = {
    "claim": "INTO approval_intents",
    "finish": "SET status = 'approved'",
    "drop": "DELETE FROM approval_intents\n        WHERE candidate_id = $1 AND claim_id = $2",
    "keep waiting": "SET claim_id = NULL,\n        next_attempt_at",
    "mark in doubt": "SET claim_id = NULL, in_doubt_since",
    "sweep": "SET claim_id = $1,",
}


async def lose_commit_of(world: World, transaction: str, contract: Contract, random: Random) -> Findings:
    """Lose the acknowledgement of one commit of an approval."""
    await world.billing.set(honour_idempotency_key=contract.honours_keys)
    candidates = await world.register(random.randint(1, 3))
    if transaction == "sweep":
        await leave_intents(world, contract, candidates, random)
    foreign, tries = await _make_billing_fail(world, transaction, [candidate.name for candidate in candidates])
    database = urlsplit(world.database_url)
    proxy = AcknowledgementProxy(database.hostname, database.port)
    async with proxy.serve():
        url = world.database_url.replace(f":{database.port}/", f":{proxy.port}/")
        if transaction == "sweep":  # its first one finds an intent; later ones, which find none, prove nothing
            proxy.swallow(TRANSACTIONS[transaction])
        replica = await world.start(database_url=url, BILLING_MAX_TRIES=tries, **contract.settings)
        await world.log_in(replica)
        if transaction != "sweep":
            proxy.swallow(TRANSACTIONS[transaction])
            for candidate in candidates:
                world.in_background(replica, world.approve(replica, candidate))
        await world.answers(replica)
        findings = await conclude(
            world, replica, candidates, foreign=foreign, at_most_one_request=not contract.retries_ambiguous
        )
        assert proxy.swallowed.is_set(), "the commit never came"
        await world.kill(replica)
    return findings


async def _make_billing_fail(world: World, transaction: str, names: list[str]) -> tuple[dict[str, int], int]:
    """Bring each approval to the transaction; return the foreign providers and the number of attempts."""
    match transaction:
        case "drop":
            await world.billing.fail("refuse_400", times=len(names), names=names)
        case "keep waiting":
            await world.billing.fail("commit_then_reset", times=len(names), names=names)
            return {}, 1
        case "mark in doubt":
            foreign = {name: await world.billing.plant(name) for name in names}
            await world.billing.fail("fail_500", times=len(names), names=names)
            return foreign, 4
        case _:
            pass
    return {}, 4
