"""Imports whose processes are killed: every row of the file is registered once, and a file that is cut off is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import uuid4

from provider_registration.imports.limits import ROWS_STORED

from .invariants import Findings
from .many_decisions import DONE_SECONDS, END_LEASES, REACHED_SECONDS
from .service_process import Replica
from .world import World

READING = "import.after-part-commit"  # of a file that is sent; the others are of the job
ROWS = 2 * ROWS_STORED + 1  # stored in three parts, and registered in more
CSV = {"Content-Type": "text/csv"}

COUNT_REGISTRATIONS = """
    SELECT count(DISTINCT candidates.id) AS companies, count(*) AS events
    FROM candidates JOIN candidate_events ON candidate_events.candidate_id = candidates.id
    WHERE contact_email LIKE '%@' || $1 || '.example' AND type = 'candidate.registered'
"""


async def kill_importers_at(world: World, places: Sequence[str], random: Random) -> Findings:
    """Kill a process that reads or registers rows at each place in turn, and let another finish."""
    api = await world.start("api", WORKERS=False)
    await world.log_in(api)
    findings = Findings()
    for place in places:
        name = f"farm-{uuid4().hex}"
        victim_works = {"failpoint": place, "hit": random.randint(1, 3)}
        if place == READING:
            victim = await world.start("victim", **victim_works)
            world.in_background(victim, world.ask(victim, "POST", "/imports", content=_file(name), headers=CSV))
            await victim.wait_until_dead(REACHED_SECONDS)
            findings.problems += await _problems_of_cut_off(world, api)
            url = await _start(world, api, name)
        else:
            url = await _start(world, api, name)
            victim = await world.start("victim", COMMAND=random.choice(("serve", "work")), **victim_works)
            await victim.wait_until_dead(REACHED_SECONDS)
        await world.kill(victim)
        await world.fetch(END_LEASES)
        survivor = await world.start("survivor", COMMAND="work")
        done = await _ended(world, api, url)
        await world.kill(survivor)
        [registered] = await world.fetch(COUNT_REGISTRATIONS, name)
        if done["counts"]["registered"] != ROWS or dict(registered) != {"companies": ROWS, "events": ROWS}:
            findings.problems.append(f"killed at {place}: {done['counts']}, {dict(registered)}")
        await world.fetch("DELETE FROM imports")  # few are stored
        findings.counted["kills"] += 1
    return findings


def _file(name: str) -> bytes:
    rows = [f"{name} {number},{number}@{name}.example,apples,1,1" for number in range(ROWS)]
    return "\r\n".join(["Company,E-mail,Products,Trucks,Capacity", *rows]).encode()


async def _start(world: World, api: Replica, name: str) -> str:
    sent = await world.ask(api, "POST", "/imports", content=_file(name), headers=CSV)
    assert sent is not None
    assert sent.status_code == 201, sent.text
    url = f"/imports/{sent.json()['import_id']}"
    started = await world.ask(api, "POST", f"{url}/start", json={})
    assert started is not None
    assert started.status_code == 202, started.text
    return url


async def _problems_of_cut_off(world: World, api: Replica) -> list[str]:
    """Whether a file that was not read to its end could be started."""
    newest = (await _get(world, api, "/imports?limit=1"))["imports"][0]
    started = await world.ask(api, "POST", f"/imports/{newest['import_id']}/start", json={})
    assert started is not None
    problems = [] if newest["state"] == "reading" else [f"a file that was cut off is {newest['state']}"]
    return problems if started.status_code == 409 else [*problems, "a file that was cut off was started"]


async def _ended(world: World, api: Replica, url: str) -> dict[str, Any]:
    async with asyncio.timeout(DONE_SECONDS):
        while (found := await _get(world, api, url))["state"] != "imported":
            await asyncio.sleep(0.1)
    return found


async def _get(world: World, api: Replica, path: str) -> dict[str, Any]:
    response = await world.ask(api, "GET", path)
    assert response is not None
    found: dict[str, Any] = response.json()
    return found
