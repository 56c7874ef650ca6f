"""Dependencies of the endpoints of events."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.events.service import EventService
from provider_registration.web.services import provide

EventServiceDep = Annotated[EventService, Depends(provide(EventService, DatabaseUnavailable()))]
