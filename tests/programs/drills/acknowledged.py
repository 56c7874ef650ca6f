"""Compares the responses that clients got with the final state of the database and billing."""

from __future__ import annotations

from tests.programs.faults.invariants import examine
from tests.programs.faults.world import Candidate, World

from .traffic import Acknowledged, Traffic

SETTLED_SECONDS = 120.0  # a lease of 30 s, and another attempt
READ_STATUSES = "SELECT id, status, provider_id FROM candidates WHERE id = ANY($1::uuid[])"


async def lost_writes(world: World, traffic: Traffic) -> list[Acknowledged]:
    """Acknowledged registrations and decisions that are missing."""
    rows = {row["id"]: row for row in await world.fetch(READ_STATUSES, list(traffic.names))}
    lost = [one for one in traffic.registered.values() if one.candidate_id not in rows]
    for decided, wanted in ((traffic.approved, "approved"), (traffic.rejected, "rejected")):
        for one in decided.values():
            row = rows.get(one.candidate_id)
            if row is None or row["status"] != wanted or row["provider_id"] != one.provider_id:
                lost.append(one)
    return lost


async def compare(world: World, traffic: Traffic) -> list[str]:
    """Violations after every approval has ended."""
    known = [Candidate(candidate_id, name) for candidate_id, name in traffic.names.items()]
    await world.until_count("in_doubt_since IS NULL", known, 0, SETTLED_SECONDS)
    problems = (await examine(world, known)).problems
    if lost := await lost_writes(world, traffic):
        problems.append(f"{len(lost)} acknowledged writes are lost, {lost[0]} among them")
    return problems
