"""The export of both logs as CSV, streamed: a million events need no more memory than ten."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from starlette.responses import StreamingResponse

from provider_registration.activity.models import Activity, ActivityFilter
from provider_registration.activity.service import ActivityService
from provider_registration.audit.models import Actor, AuditEvent, AuditType
from provider_registration.audit.service import AuditLog
from provider_registration.web.csv_files import BYTE_ORDER_MARK, csv_lines, csv_text
from provider_registration.web.head_requests import no_parts

CHUNK = 200  # events written at a time
COLUMNS = (
    *("id", "at", "type", "actor_kind", "actor_id", "actor_name"),
    *("subject_kind", "subject_id", "subject_name", "version", "data"),
)


async def export_as_csv(
    which: ActivityFilter, service: ActivityService, log: AuditLog, *, actor: Actor, headers_only: bool
) -> StreamingResponse:
    """Record the export, then stream every event that the filter finds; HEAD is no export."""
    headers = {"Content-Disposition": f'attachment; filename="activity-{datetime.now(UTC):%Y-%m-%d}.csv"'}
    if headers_only:
        return StreamingResponse(no_parts(), headers=headers, media_type="text/csv")
    data: dict[str, object] = {"format": "csv", "filters": which.names}
    await log.record(AuditEvent(AuditType.AUDIT_EXPORTED, actor, data=data))
    return StreamingResponse(as_csv(service.all(which)), headers=headers, media_type="text/csv")


async def as_csv(events: AsyncIterator[Activity]) -> AsyncIterator[str]:
    """RFC 4180 with a header line, in UTF-8, for spreadsheets."""
    yield BYTE_ORDER_MARK + csv_lines([COLUMNS])
    some: list[tuple[object, ...]] = []
    async for event in events:
        some.append(_row(event))
        if len(some) == CHUNK:
            yield await csv_text(some)
            some = []
    yield await csv_text(some)


def _row(event: Activity) -> tuple[object, ...]:
    actor, subject = event.actor, event.subject
    return (
        *(event.id, event.at, str(event.type), str(actor.kind), actor.id, actor.name),
        *((subject.kind, subject.id, subject.name) if subject else (None, None, None)),
        event.version,
        json.dumps(event.data, ensure_ascii=False) if event.data else None,
    )
