"""A request with an Idempotency-Key whose response was lost by kill -9 is repeated, at two processes at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID, uuid4

from .invariants import Findings
from .kills import ASKING, KEEPING
from .service_process import Replica
from .world import RECOVERY_SECONDS, Answer, World

PLACES_OF_REPEATS = (*KEEPING, *ASKING[1:])  # a batch of claims, the first, has no requests with keys
AT_ONCE = 10
COUNT_EFFECTS = """
    SELECT (SELECT count(*) FROM candidates WHERE contact_email = $1) AS candidates,
           (SELECT count(*) FROM candidate_events JOIN candidates ON candidates.id = candidate_id
            WHERE contact_email = $1 AND type <> ALL('{candidate.registered,candidate.approval_requested}'))
               AS decisions
"""


@dataclass(frozen=True)
class Operation:
    """A request with a key, another body for it, and the numbers of candidates and of their decisions afterwards."""

    path: str
    body: dict[str, Any]
    other: dict[str, Any]
    email: str
    key: str
    status: int
    effects: tuple[int, int]

    async def send(self, world: World, replica: Replica, *, body: dict[str, Any] | None = None) -> Answer:
        """Send the request, or one with another body and the same key; None without a response."""
        headers = {"Idempotency-Key": self.key}
        return await world.ask(replica, "POST", self.path, json=body or self.body, headers=headers)


async def repeat_after_kill_at(world: World, random: Random, *, place: str) -> Findings:
    """Kill a process before it responds; then every response to the same request is the same, and its effect is one."""
    findings = Findings()
    operation = await _operation_at(world, place)
    victim = await world.start("victim", failpoint=place, PUBLIC_PAGES=True)
    await world.log_in(victim)
    lost = world.in_background(victim, operation.send(world, victim))
    await victim.wait_until_reached()
    await victim.wait_until_dead()
    assert await lost is None, "the process responded before it died"
    await world.kill(victim)

    replicas = [await world.start(PUBLIC_PAGES=True) for _ in range(2)]
    told = set()
    async with asyncio.timeout(RECOVERY_SECONDS):
        while len(told) == 0 or random.random() < 0.5:  # once more now and then
            answers = await asyncio.gather(*(operation.send(world, random.choice(replicas)) for _ in range(AT_ONCE)))
            for answer in answers:
                if answer is None or answer.status_code not in (operation.status, 409):
                    findings.problems.append(f"a repeated request got {answer and answer.text}")
                elif answer.status_code == operation.status:
                    told.add((answer.content, answer.headers.get("ETag"), answer.headers.get("Location")))
            await asyncio.sleep(0.1)
    if len(told) != 1:
        findings.problems.append(f"repeated requests got {len(told)} different responses")
    refused = await operation.send(world, replicas[0], body=operation.other)
    if refused is None or refused.status_code != 422:
        findings.problems.append(f"another body with the same key got {refused and refused.text}")
    [row] = await world.fetch(COUNT_EFFECTS, operation.email)
    if tuple(row) != operation.effects:
        findings.problems.append(f"there are {row}, not {operation.effects}")
    return findings


async def _operation_at(world: World, place: str) -> Operation:
    """The operation that reaches a failpoint."""
    if place.startswith("registration."):
        email = f"{uuid4().hex}@obsthof.example"
        facts = {"company_name": "Obsthof", "contact_email": email, "products": ["apples"], "truck_count": 1}
        body, other = ({**facts, "capacity_tons_per_day": tons} for tons in (40, 41))
        return Operation("/candidates", body, other, email, _key(), 201, (1, 0))
    [candidate] = await world.register()
    if place.startswith("rejection."):
        path, body = _path(candidate.id, "reject"), {"reason": "No cold chain"}
        return Operation(path, body, {"reason": "Too far"}, candidate.email, _key(), 200, (1, 1))
    path = _path(candidate.id, "approve")
    return Operation(path, {"notify": True}, {"notify": False}, candidate.email, _key(), 200, (1, 1))


def _path(candidate_id: UUID, decision: str) -> str:
    return f"/candidates/{candidate_id}/{decision}"


def _key() -> str:
    return uuid4().hex
