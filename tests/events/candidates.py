"""Candidates and events written with SQL alone, as another program or an older release would."""

from __future__ import annotations

from uuid import UUID, uuid4

import asyncpg


async def add_candidate(connection: asyncpg.Connection) -> UUID:
    """Register a candidate; a trigger writes its event."""
    candidate_id: UUID = await connection.fetchval(
        """
        INSERT INTO candidates
            (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day)
        VALUES ('Somebody', $1, NULL, '{apples}', 1, 1)
        RETURNING id
        """,
        f"{uuid4().hex}@example.com",
    )
    return candidate_id


async def add_event(connection: asyncpg.Connection, candidate_id: UUID, type_: str = "status_link_replaced") -> int:
    """Write an event of a candidate under the lock that the service's statements hold."""
    async with connection.transaction():
        await connection.execute("SELECT FROM candidates WHERE id = $1 FOR UPDATE", candidate_id)
        event_id: int = await connection.fetchval(
            "INSERT INTO candidate_events (candidate_id, type, actor_kind) VALUES ($1, $2, 'service') RETURNING id",
            candidate_id,
            f"candidate.{type_}",
        )
    return event_id
