"""Jobs whose processes are killed: each candidate is decided once, and its result says so.

A process may die after a decision and before the job has its result. The next one must not report that the candidate
was decided before: it was, by this job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from uuid import uuid4

from .invariants import Findings, conclude
from .kills import ASKING, WORKING
from .service_process import Replica
from .world import Candidate, World

PLACES = (*WORKING, *ASKING)
REACHED_SECONDS = 30.0
DONE_SECONDS = 120.0  # on a busy machine
OF_EACH = 6  # candidates to approve, and to reject
# What an approval may be when its process dies, or when billing is slow; it is completed without the job. A response of
# billing that does not end in time leaves it to an admin.
UNCONFIRMED = ("approval-waiting", "approval-failed", "approval-in-progress", "approval-in-doubt")

# Those of processes that are dead.
END_LEASES = "UPDATE jobs SET due_at = clock_timestamp() WHERE claim_id IS NOT NULL"
COUNT_DECISIONS = """
    SELECT candidate_id, count(*) AS decisions FROM candidate_events
    WHERE candidate_id = ANY($1::uuid[]) AND type IN ('candidate.approved', 'candidate.rejected')
    GROUP BY candidate_id
    HAVING count(*) <> 1
"""


async def kill_workers_at(world: World, places: Sequence[str], random: Random) -> Findings:
    """Kill the processes that work on jobs at each place in turn, and let two others finish."""
    api = await world.start("api", WORKERS=False)
    await world.log_in(api)
    findings = Findings()
    for place in places:
        approved, rejected = await world.register(OF_EACH), await world.register(OF_EACH)
        jobs = {
            "approved": await _post(world, api, "approve", approved),
            "rejected": await _post(world, api, "reject", rejected),
        }
        # Approvals are claimed and finished together, and there are two jobs.
        hit = 1 if place in ASKING else random.randint(1, 2)
        command = random.choice(("serve", "work"))
        victim = await world.start("victim", failpoint=place, hit=hit, COMMAND=command)
        await victim.wait_until_dead(REACHED_SECONDS)
        await world.kill(victim)
        await world.fetch(END_LEASES)
        survivors = [await world.start("survivor", COMMAND="work") for _ in range(2)]
        for wanted, job_id in jobs.items():
            findings.problems += await _problems_of(world, api, job_id, wanted)
        for survivor in survivors:
            await world.kill(survivor)
        candidates = [*approved, *rejected]
        findings.add(await conclude(world, api, candidates))
        for row in await world.fetch(COUNT_DECISIONS, [one.id for one in candidates]):
            findings.problems.append(f"{row['candidate_id']} has {row['decisions']} decisions")
        findings.counted["kills"] += 1
    return findings


async def _post(world: World, api: Replica, decision: str, candidates: Sequence[Candidate]) -> str:
    items = [{"candidate_id": str(one.id), "version": 1} for one in candidates]
    response = await world.ask(
        api,
        "POST",
        "/candidates/decisions",
        json={"decision": decision, "items": items},
        headers={"Idempotency-Key": uuid4().hex},
    )
    assert response is not None
    assert response.status_code == 202, response.text
    job_id: str = response.json()["job_id"]
    return job_id


async def _problems_of(world: World, api: Replica, job_id: str, wanted: str) -> list[str]:
    job = {}
    async with asyncio.timeout(DONE_SECONDS):
        while job.get("state") != "done":
            response = await world.ask(api, "GET", f"/jobs/{job_id}")
            assert response is not None
            job = response.json()
            await asyncio.sleep(0.1)
    results = {result.get("code", result["status"]) for result in job["results"]}
    allowed = {wanted, *UNCONFIRMED} if wanted == "approved" else {wanted}
    if job["done"] == job["of"] and results <= allowed:
        return []
    unfinished = await world.fetch("SELECT attempts, last_error FROM approval_intents")
    return [f"job {job_id}: {job['summary']}, {[tuple(row) for row in unfinished]}"]
