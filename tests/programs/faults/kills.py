"""kill -9 at every failpoint: a started approval is finished after a restart, exactly once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from random import Random
from typing import Any

from .invariants import Findings, conclude
from .service_process import NotReached, Replica
from .world import LEASE_SECONDS, Answer, Candidate, World

ASKING = (
    "approval.before-claim",
    "approval.after-claim-commit",
    "billing.before-send",
    "billing.after-response",
    "approval.before-finish",
    "approval.after-finish-commit",
)
RELEASING = ("approval.before-release-commit", "approval.after-release-commit")
SWEEPING = ("sweep.before-claim-commit", "sweep.after-claim-commit")
RESOLVING = ("resolve.before-commit", "resolve.after-commit")
DISPATCHING = ("dispatch.before-commit", "dispatch.after-commit")  # events
COUNTING = ("statistics.before-commit", "statistics.after-commit")
PUBLISHING = ("broker.after-claim-commit", "broker.before-release", "broker.after-release-commit")
REPLAYING = "webhook.before-replay-commit"
CALLING = (  # webhooks
    "webhook.after-claim-commit",
    "webhook.before-send",
    "webhook.after-send",
    "webhook.after-record-commit",
    REPLAYING,
)
WORKING = (  # on jobs
    "job.after-claim-commit",
    "job.after-start-commit",
    "job.before-record",
    "job.after-record-commit",
    "job.before-release",
)
IMPORTING = ("import.after-part-commit", "import.before-rows-commit", "import.after-rows-commit")
MAILING = ("mail.after-claim-commit", "mail.before-send", "mail.after-send", "mail.after-record-commit")
KEEPING = (  # answers for idempotency keys
    "registration.before-key-commit",
    "registration.after-key-commit",
    "rejection.before-key-commit",
    "rejection.after-key-commit",
    "approval.before-key-commit",
)
Scenario = Callable[..., Awaitable[Findings]]
Meanwhile = Callable[[], Awaitable[None]]
TRIES = 3
FAILPOINTS = ASKING + RELEASING + SWEEPING + RESOLVING  # of approvals


@dataclass(frozen=True)
class Contract:
    """How billing prevents a second provider, and the service's setting for it."""

    name: str
    honours_keys: bool = True
    retries_ambiguous: bool = True

    @property
    def settings(self) -> dict[str, object]:
        """The service's settings."""
        return {"BILLING_RETRY_AMBIGUOUS": self.retries_ambiguous}


KEYS_HONOURED = Contract("keys honoured")
KEYS_IGNORED = Contract("keys ignored", honours_keys=False)  # names are unique: what the real service does today
NOTHING_GUARDED = Contract("nothing guarded", honours_keys=False, retries_ambiguous=False)
CONTRACTS = (KEYS_HONOURED, KEYS_IGNORED, NOTHING_GUARDED)


def tried_until_reached(scenario: Scenario) -> Scenario:
    """Retry with other candidates if the failpoint was not reached."""

    @wraps(scenario)
    async def tried(*arguments: Any, **how: Any) -> Findings:
        for _ in range(TRIES - 1):
            with suppress(NotReached):
                return await scenario(*arguments, **how)
            world: World = arguments[0]
            await world.clear()
        return await scenario(*arguments, **how)

    return tried


@tried_until_reached
async def kill_at(
    world: World, failpoint: str, contract: Contract, random: Random, *, meanwhile: Meanwhile | None = None
) -> Findings:
    """Kill the service at a failpoint, restart it, and check that every approval ends in exactly one way.

    `meanwhile` runs between the two.
    """
    await world.billing.set(honour_idempotency_key=contract.honours_keys)
    candidates = await world.register(random.randint(1, 3))
    victim, foreign = await come_to(world, failpoint, contract, candidates, random, action="kill")
    await victim.wait_until_dead()
    await world.kill(victim)
    await world.billing.fail("none")
    if meanwhile is not None:
        await meanwhile()

    survivor = await world.start(**contract.settings)
    findings = await conclude(
        world, survivor, candidates, foreign=foreign, at_most_one_request=not contract.retries_ambiguous
    )
    if contract is KEYS_HONOURED and failpoint not in RESOLVING:
        assert findings.in_doubt == 0, "keys identify the provider, so no admin is needed"
    return findings


async def come_to(
    world: World, failpoint: str, contract: Contract, candidates: Sequence[Candidate], random: Random, *, action: str
) -> tuple[Replica, dict[str, int]]:
    """Start a replica that has reached a failpoint for the candidates; return it and the foreign providers.

    Its unanswered requests are abandoned.
    """
    how = {"failpoint": failpoint, "action": action, **contract.settings}
    foreign: dict[str, int] = {}
    if failpoint in SWEEPING:
        left = await leave_intents(world, contract, candidates, random)
        replica = await world.start("victim", **how, hit=random.randint(1, left))
    elif failpoint in RESOLVING:
        foreign = await leave_in_doubt(world, contract, candidates, random)
        replica = await world.start("victim", **how, hit=random.randint(1, len(candidates)))
        await world.log_in(replica)
        _resolve_each(world, replica, candidates, foreign)
    else:
        if failpoint in RELEASING:
            how |= await _make_billing_fail(world, candidates, random)
        replica = await world.start("victim", **how, hit=random.randint(1, len(candidates)))
        await world.log_in(replica)
        for candidate in candidates:
            world.in_background(replica, world.approve(replica, candidate))
    await replica.wait_until_reached()
    return replica, foreign


async def _make_billing_fail(world: World, candidates: Sequence[Candidate], random: Random) -> dict[str, object]:
    """Cause each kind of release: dropped, left waiting, or in doubt where billing ignores keys."""
    mode = random.choice(["refuse_400", "commit_then_reset", "commit_then_500"])
    await world.billing.fail(mode, times=len(candidates), names=[candidate.name for candidate in candidates])
    return {"BILLING_MAX_TRIES": 1 if mode != "refuse_400" else 4}


async def leave_intents(world: World, contract: Contract, candidates: Sequence[Candidate], random: Random) -> int:
    """Kill a worker during approvals and wait until its leases expire; return the number of intents left."""
    point = random.choice(["approval.after-claim-commit", "billing.before-send", "billing.after-response"])
    worker, _ = await come_to(world, point, contract, candidates, random, action="kill")
    await worker.wait_until_dead()
    await world.kill(worker)
    await world.until_count("next_attempt_at > now()", candidates, 0, 2 * LEASE_SECONDS)
    return await world.count("true", candidates)


async def leave_in_doubt(
    world: World, contract: Contract, candidates: Sequence[Candidate], random: Random
) -> dict[str, int]:
    """Put every candidate in doubt, some with another company's provider; return their IDs by name."""
    await world.billing.set(honour_idempotency_key=False)
    worker = await world.start("worker", **contract.settings)
    await world.log_in(worker)
    foreign = {}
    for candidate in candidates:
        is_ours = random.random() < 0.5
        if not is_ours:
            foreign[candidate.name] = await world.billing.plant(candidate.name)
        await world.billing.fail("commit_then_500" if is_ours else "fail_500", times=1, names=[candidate.name])
        response = await world.approve(worker, candidate)
        assert response is not None, "no response to an approval"
        assert response.status_code == 502, response.text
    await world.settle(candidates)
    assert await world.count("state = 'in_doubt'", candidates) == len(candidates)
    await world.kill(worker)
    await world.billing.set(honour_idempotency_key=contract.honours_keys)
    return foreign


def _resolve_each(world: World, replica: Replica, candidates: Sequence[Candidate], foreign: dict[str, int]) -> None:
    async def resolve(candidate: Candidate) -> Answer:
        if candidate.name in foreign:
            return await world.resolve(replica, candidate, resolution="let_go")
        [provider_id] = (await world.billing.provider_ids({candidate.name}))[candidate.name]
        return await world.resolve(replica, candidate, resolution="link", provider_id=provider_id)

    for candidate in candidates:
        world.in_background(replica, resolve(candidate))
