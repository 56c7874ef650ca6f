"""The page of both logs, for auditors and admins: who did what, to whom, and when; and its export."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from provider_registration.activity.dependencies import ActivityServiceDep
from provider_registration.activity.export import export_as_csv
from provider_registration.activity.models import ActivityFilter
from provider_registration.activity.schemas import TypeParameter
from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.console.dependencies import AuditingUserDep
from provider_registration.console.event_names import AUDIT_EVENTS, EVENTS, actor_of, details_of
from provider_registration.console.layout import ACTIVITY, EmptyIsAbsent, LayoutDep
from provider_registration.web.head_requests import HeadersOnly
from provider_registration.web.pagination import Cursor, Position

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 50


class ActivityPageQuery(BaseModel):
    """The query parameters of the page; days are in UTC, and both are included."""

    actor: Annotated[UUID | None, EmptyIsAbsent] = None
    type: Annotated[TypeParameter | None, EmptyIsAbsent] = None
    first: Annotated[date | None, EmptyIsAbsent] = Field(None, alias="from")
    last: Annotated[date | None, EmptyIsAbsent] = Field(None, alias="to")
    after: Cursor | None = None

    @property
    def selection(self) -> ActivityFilter:
        """The filter."""
        day_after = self.last + timedelta(days=1) if self.last and self.last < date.max else None
        return ActivityFilter(self.actor, self.type, _midnight(self.first), _midnight(day_after))

    def query_string(self, **changes: object) -> str:
        """The query string of the same list, with some changes; without `after`, its first page."""
        values = {**self.model_dump(exclude={"after"}, mode="json", by_alias=True), **changes}
        return urlencode({name: value for name, value in values.items() if value})


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time.min, UTC) if day else None


@router.get(ACTIVITY)
async def show_activity(
    query: Annotated[ActivityPageQuery, Query()],
    _signed_in: AuditingUserDep,
    service: ActivityServiceDep,
    layout: LayoutDep,
) -> Response:
    """Show events that the query selects, newest first."""
    before = Position.from_cursor(query.after) if query.after else None
    page = await service.page(query.selection, limit=PAGE_SIZE, before=before)
    return layout.page(
        "activity.html",
        query=query,
        page=page,
        actors=await service.actors(),
        names={"Candidates": EVENTS, "Staff": AUDIT_EVENTS},
        name_of={**EVENTS, **AUDIT_EVENTS},
        actor_of=actor_of,
        details_of=details_of,
        next_page=page.next and query.query_string(after=page.next.to_cursor()),
    )


@router.get(f"{ACTIVITY}/export.csv")
async def export(
    query: Annotated[ActivityPageQuery, Query()],
    signed_in: AuditingUserDep,
    service: ActivityServiceDep,
    log: AuditLogDep,
    headers_only: HeadersOnly,
) -> Response:
    """Every event that the same page shows, as CSV."""
    actor = signed_in.user.actor
    return await export_as_csv(query.selection, service, log, actor=actor, headers_only=headers_only)
