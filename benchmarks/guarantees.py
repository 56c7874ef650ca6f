"""Checks what a run wrote in a database of our schema: by ours, and by the peers that promise the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from benchmarks.database import connected
from benchmarks.processes import NO_TLS
from benchmarks.scenarios import Scenario

TRIES, PAUSE = 80, 0.25  # seconds between tries: requests continue after wrk has left

# Candidates of the run that lack something, with what it is; those that were prepared have no event of their own.
MISSING = """
    WITH made AS (SELECT * FROM candidates WHERE contact_email LIKE 'bench-%'),
    events AS (
        SELECT candidate_id, type, count(*) AS events, min(version) AS version, min(CAST(actor_id AS text)) AS actor_id,
               min(data ->> 'provider_id') AS provider_id, min(data ->> 'idempotency_key') AS key
        FROM candidate_events
        WHERE candidate_id IN (SELECT id FROM made) AND NOT data ? 'backfilled'
        GROUP BY candidate_id, type
    )
    SELECT id, 'the event of the registration' AS missing
    FROM made LEFT JOIN events ON candidate_id = id AND type = 'candidate.registered'
    WHERE events IS DISTINCT FROM 1 AND company_name LIKE 'Huerta%'
    UNION ALL
    SELECT id, 'the search text' FROM made WHERE coalesce(search_text, '') NOT LIKE ' %'
    UNION ALL
    SELECT id, 'the canonical address' FROM made WHERE contact_email_canonical IS DISTINCT FROM lower(contact_email)
    UNION ALL
    SELECT id, 'the event of the rejection'
    FROM made LEFT JOIN events ON candidate_id = id AND type = 'candidate.rejected'
    WHERE status = 'rejected'
      AND (events IS DISTINCT FROM 1 OR events.version <> made.version OR made.version <> 2
           OR actor_id IS DISTINCT FROM CAST(rejected_by AS text) OR rejected_by IS NULL)
    UNION ALL
    SELECT id, 'the event of the request'
    FROM made LEFT JOIN events ON candidate_id = id AND type = 'candidate.approval_requested'
    WHERE status = 'approved' AND (events IS DISTINCT FROM 1 OR actor_id IS NULL OR key IS NULL)
    UNION ALL
    SELECT id, 'the event of the approval'
    FROM made LEFT JOIN events ON candidate_id = id AND type = 'candidate.approved'
    WHERE status = 'approved'
      AND (events IS DISTINCT FROM 1 OR events.version <> made.version OR made.version <> 2 OR actor_id IS NULL
           OR events.provider_id IS DISTINCT FROM CAST(made.provider_id AS text) OR key IS NULL)
    UNION ALL
    SELECT id, 'the end of the approval' FROM made JOIN approval_intents ON candidate_id = id
    LIMIT 10
"""
HOW_MANY = """
    SELECT count(*) FROM candidates WHERE contact_email LIKE 'bench-%' AND (status = $1 OR company_name LIKE 'Huerta%')
"""
APPROVED = "SELECT company_name, provider_id FROM candidates WHERE status = 'approved' AND contact_email LIKE 'bench-%'"
# Counting mends, and what is mended would be found right at the next try, so it is taken back.
CORRECTIONS = "SELECT count(*) FROM recount_candidates()"


class BrokenPromise(Exception):
    """Rows lack something, or billing has other providers than the candidates."""


async def providers_made(billing_url: str) -> Mapping[str, Sequence[int]]:
    """The IDs of the providers that billing created since it was asked last, by name."""
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS, timeout=30) as client:
        response = await client.get(f"{billing_url}/created")
        made: Mapping[str, Sequence[int]] = response.raise_for_status().json()
        return made


async def until_quiet(billing_url: str) -> None:
    """Wait until billing has nothing to do for earlier runs, and let it forget what it did."""
    for _ in range(TRIES):
        if not await providers_made(billing_url):
            break
        await asyncio.sleep(PAUSE)


async def check_written(url: str, billing_url: str, scenario: Scenario, answered: int) -> None:
    """See that every write has its events, counts and texts, and every approval its one provider.

    `answered`: successful responses.

    Raises:
        BrokenPromise: one has not.
    """
    made: dict[str, Sequence[int]] = {}
    problem = None
    async with connected(url) as connection:
        for _ in range(TRIES):
            for name, ids in (await providers_made(billing_url)).items():
                made[name] = [*made.get(name, ()), *ids]
            problem = await _problem(connection, scenario, answered, made)
            if problem is None:
                return
            await asyncio.sleep(PAUSE)
    raise BrokenPromise(f"{scenario.title}: {problem}")


async def _problem(connection: Any, scenario: Scenario, answered: int, made: Mapping[str, Sequence[int]]) -> str | None:
    if missing := await connection.fetch(MISSING):
        return ", ".join(f"{row[0]} lacks {row[1]}" for row in missing)
    status = {"reject": "rejected", "approve": "approved"}.get(scenario.decision, "")
    written = await connection.fetchval(HOW_MANY, status)
    if written < answered:
        return f"{written} rows for {answered} answers"
    if corrections := await _corrections(connection):
        return f"{corrections} counts were wrong"
    approved = {row["company_name"]: [row["provider_id"]] for row in await connection.fetch(APPROVED)}
    if approved != made:
        different = [name for name in approved.keys() | made.keys() if approved.get(name) != made.get(name)]
        return ", ".join(f"{name}: {made.get(name)} in billing, {approved.get(name)} here" for name in different[:10])
    return None


async def _corrections(connection: Any) -> int:
    transaction = connection.transaction()
    await transaction.start()
    try:
        return int(await connection.fetchval(CORRECTIONS))
    finally:
        await transaction.rollback()
