"""Writes audit events."""

from __future__ import annotations

import json

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.audit import queries
from provider_registration.audit.models import AuditEvent
from provider_registration.db.database import Database


async def record(session: AsyncSession, event: AuditEvent) -> None:
    """Record an act in the transaction that does it."""
    parameters = {
        "type": str(event.type),
        "actor_kind": str(event.actor.kind),
        "actor_id": event.actor.id,
        "subject_kind": event.subject.kind if event.subject else None,
        "subject_id": event.subject.id if event.subject else None,
        "data": json.dumps(event.data),
    }
    await session.execute(queries.RECORD, parameters)


class AuditLog:
    """Records acts that change nothing in the database, such as exports, before they begin."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, event: AuditEvent) -> None:
        """Record an act; the caller does it only if this succeeds."""
        async with self._database.statement() as session:
            await record(session, event)
