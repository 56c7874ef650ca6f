"""Dependencies of the event routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.events.feed import Feed
from provider_registration.events.service import EventService
from provider_registration.events.stream import EventStreams
from provider_registration.web.services import provide

FeedDep = Annotated[Feed, Depends(provide(Feed, DatabaseUnavailable()))]
EventStreamsDep = Annotated[EventStreams, Depends(provide(EventStreams, DatabaseUnavailable()))]
EventServiceDep = Annotated[EventService, Depends(provide(EventService, DatabaseUnavailable()))]
