"""Whether old events can be removed from the logs, which the owner of the tables has to allow."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Whether the current role may call prune_events, and the owner of this function may delete from the logs.
MAY_PRUNE = text("""
    SELECT has_function_privilege(pg_proc.oid, 'EXECUTE')
           AND has_table_privilege('audit_events', 'INSERT')
           AND has_table_privilege('event_retention', 'SELECT')
           AND has_table_privilege(proowner, 'audit_events', 'DELETE')
           AND has_table_privilege(proowner, 'candidate_events', 'DELETE')
    FROM pg_proc
    WHERE pg_proc.oid = to_regprocedure('prune_events(integer, integer)')
""")

# Whether the owner has stored how long events are kept at least; without it, prune_events deletes none.
HAS_MINIMUM = text("SELECT EXISTS (SELECT FROM event_retention)")

MINIMUM_DAYS = text("SELECT minimum_days FROM event_retention")


async def find_obstacle(connection: AsyncConnection) -> str | None:
    """Why no event can be removed; None if old ones can."""
    if not await connection.scalar(MAY_PRUNE):
        return (
            "old events are kept: this role may not call prune_events (see migrate --grant-to), "
            "or the owner of that function may not delete events"
        )
    if not await connection.scalar(HAS_MINIMUM):
        return "old events are kept: the owner of the tables has stored no minimum in event_retention"
    return None


async def find_longer_minimum(connection: AsyncConnection, days: int) -> str | None:
    """Why events are kept for longer than `days`; None if they are not."""
    minimum = await connection.scalar(MINIMUM_DAYS)
    if minimum is None or minimum <= days:
        return None
    return (
        f"events are kept for {minimum} days, not {days}: the owner of the tables has stored this minimum in "
        "event_retention; raise RETENTION_EVENTS_DAYS, or have the owner lower it"
    )
