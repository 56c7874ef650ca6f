"""Dependencies of the endpoints of both logs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.activity.service import ActivityService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.services import provide

ActivityServiceDep = Annotated[ActivityService, Depends(provide(ActivityService, DatabaseUnavailable()))]
