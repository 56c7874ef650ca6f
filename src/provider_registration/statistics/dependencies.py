"""Dependencies of the statistics."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.statistics.service import StatisticsService
from provider_registration.web.services import provide

StatisticsServiceDep = Annotated[StatisticsService, Depends(provide(StatisticsService, DatabaseUnavailable()))]
