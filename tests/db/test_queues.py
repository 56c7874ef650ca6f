"""Queues and prunes read only what is due: the index leaves out the rest, however many rows wait."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from provider_registration.deliveries.queries import CLAIM_DELIVERIES, PRUNE_DELIVERIES
from provider_registration.events.queries import HAS_QUEUED_EVENTS
from provider_registration.idempotency.queries import PRUNE
from provider_registration.jobs.queries import PRUNE_JOBS
from provider_registration.notifications.queries import MAKE_DIGEST


@pytest.fixture
async def connection(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")
    yield connection
    await connection.close()


async def plan_of(connection, statement, **parameters):
    compiled = statement.compile(dialect=dialect.dialect())
    values = {**compiled.params, **parameters}
    rows = await connection.fetch(f"EXPLAIN {compiled}", *[values[name] for name in compiled.positiontup or ()])
    return [row[0].strip() for row in rows]


@pytest.mark.parametrize(
    ("statement", "parameters", "index", "bound"),
    [
        (
            CLAIM_DELIVERIES,
            {"kind": "email", "target": "applicant", "limit": 10, "lease_seconds": 1.0},
            "ix_deliveries_due",
            "next_attempt_at <= statement_timestamp()",
        ),
        (PRUNE_DELIVERIES, {"days": 1, "limit": 10}, "ix_deliveries_ended", "updated_at < (statement_timestamp()"),
        (
            PRUNE,
            {"lifetime_hours": 1, "batch": 10},
            "ix_idempotency_keys_created_at",
            "created_at <= (statement_timestamp()",
        ),
        (
            MAKE_DIGEST,
            {"period": "day", "offset": timedelta(), "recipients": 1},
            "pk_event_positions",
            '"position" > (InitPlan',
        ),
        (PRUNE_JOBS, {"days": 1, "limit": 10}, "ix_jobs_ended_at", "ended_at < (statement_timestamp()"),
    ],
    ids=["claim", "prune deliveries", "prune keys", "digest", "prune jobs"],
)
async def test_an_index_leaves_out_what_is_not_due(connection, statement, parameters, index, bound):
    plan = await plan_of(connection, statement, **parameters)

    [found] = [place for place, line in enumerate(plan) if f"using {index} on" in line]
    assert plan[found + 1].startswith("Index Cond")
    assert bound in plan[found + 1]


async def test_the_queue_of_events_is_looked_at_from_the_start_of_its_index(connection):
    assert any("Index Only Scan" in line for line in await plan_of(connection, HAS_QUEUED_EVENTS))
