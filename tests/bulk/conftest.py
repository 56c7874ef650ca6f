"""Decides many candidates over HTTP."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest


def a_key():
    return {"Idempotency-Key": uuid4().hex}


def items_of(candidates, version=None):
    """What to decide: candidates or their IDs, with their versions if they have one."""
    items = []
    for each in candidates:
        one = {"candidate_id": each["candidate_id"] if isinstance(each, dict) else str(each)}
        items.append(one | ({"version": each["version"]} if isinstance(each, dict) else {}))
    return items


@pytest.fixture
def decide(admin):
    """Posts a decision and returns the response."""

    async def decide(decision, items=None, *, client=admin, key=None, wait=None, **more):
        headers = (key or a_key()) | ({"Prefer": f"wait={wait}"} if wait is not None else {})
        body = {"decision": decision, **more} | ({"items": items} if items is not None else {})
        return await client.post("/candidates/decisions", json=body, headers=headers)

    return decide


@pytest.fixture
def ended(admin):
    """Waits until a job has ended, and returns it with its results."""

    async def ended(job_id, *, client=admin, seconds=60):
        for _ in range(seconds * 10):
            job = (await client.get(f"/jobs/{job_id}")).json()
            if job["state"] in ("done", "cancelled"):
                return job
            await asyncio.sleep(0.1)
        raise AssertionError(job)

    return ended
