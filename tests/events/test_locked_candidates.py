"""Who writes an event of a candidate holds its row until the commit, so that its events have IDs in their order."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration import failpoints
from provider_registration.approvals.batches import ApprovalBatches
from provider_registration.approvals.models import CreatedProvider
from provider_registration.db.database import Database, RowLocked
from provider_registration.settings import DatabaseSettings
from tests.events.candidates import add_candidate

LOCK = "SELECT FROM candidates WHERE id = $1 FOR NO KEY UPDATE"


@pytest.mark.parametrize(("fault", "event"), [("refuse_400", "approval_failed"), ("wrong_name", "approval_in_doubt")])
async def test_while_an_approval_is_released(admin, register, billing, database, monkeypatch, fault, event):
    candidate = await register()
    candidate_id = UUID(candidate["candidate_id"])
    await billing.fail(fault, names=[candidate["company_name"]])
    reached, may_go_on = asyncio.Event(), asyncio.Event()

    async def stop_there(name):
        if name == "approval.before-release-commit":
            reached.set()
            await may_go_on.wait()

    monkeypatch.setattr(failpoints, "hook", stop_there)
    approving = asyncio.create_task(admin.post(f"/candidates/{candidate_id}/approve"))
    async with asyncio.timeout(30):
        await reached.wait()
    try:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await database.execute(f"{LOCK} NOWAIT", candidate_id)
    finally:
        may_go_on.set()
        await approving

    newest = "SELECT type FROM candidate_events WHERE candidate_id = $1 ORDER BY id DESC LIMIT 1"
    assert await database.fetchval(newest, candidate_id) == f"candidate.{event}"


async def test_while_a_provider_is_recorded_as_an_orphan(own_database_url):
    url = DatabaseSettings(_env_file=None, database_url=own_database_url).database_url
    database = Database(url, pool_size=2, time_limit=10)
    connection = await asyncpg.connect(own_database_url)
    decided = await add_candidate(connection)
    await connection.execute("UPDATE candidates SET status = 'rejected' WHERE id = $1", decided)
    created = CreatedProvider(decided, 1, uuid4(), 7)
    batches = ApprovalBatches(database, lease_seconds=30)

    async with connection.transaction():
        await connection.execute(LOCK, decided)
        with pytest.raises(RowLocked):
            await batches.finish(created)
    await batches.finish(created)

    orphans = "SELECT count(*) FROM candidate_events WHERE type = 'candidate.provider_orphaned'"
    assert await connection.fetchval(orphans) == 1
    await connection.close()
    await database.close()
