"""What routes that show sums are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from provider_registration.statistics.service import StatisticsService


async def get_statistics_service(request: Request) -> StatisticsService:
    """The service that the lifespan made."""
    service: StatisticsService = request.app.state.statistics_service
    return service


StatisticsServiceDep = Annotated[StatisticsService, Depends(get_statistics_service)]
