"""The route of the statistics."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from provider_registration.auth.dependencies import AUDITOR_OR_ADMIN, StaffDep
from provider_registration.auth.errors import RoleNotAllowed
from provider_registration.statistics.dependencies import StatisticsServiceDep
from provider_registration.statistics.models import Grouping, Statistics
from provider_registration.statistics.schemas import (
    EXAMPLE_STATISTICS,
    StatisticsQuery,
    StatisticsResponse,
    statistics_body,
)
from provider_registration.web.openapi import refuses, success
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, direct, json_response

router = APIRouter(tags=["statistics"], route_class=Route)


@router.get(
    "/statistics",
    summary="Read statistics",
    response_model=StatisticsResponse,
    responses=success(200, "Figures of each bucket, and of all", EXAMPLE_STATISTICS),
)
@refuses(RoleNotAllowed(AUDITOR_OR_ADMIN), InvalidRequest.at("query", None, "`from` should not be after `to`"))
@direct
async def read_statistics(
    query: Annotated[StatisticsQuery, Query()], service: StatisticsServiceDep, user: StaffDep, _once: ParametersOnce
) -> Response:
    """Count registrations and decisions by day, week or month; `by=decided_by` is for auditors and admins."""
    if query.by is Grouping.DECIDED_BY and not user.may_audit:
        raise RoleNotAllowed(AUDITOR_OR_ADMIN)
    found = await service.read(query.to_period())
    return json_response(await asyncio.to_thread(_as_json, found))


def _as_json(found: Statistics) -> str:
    return json.dumps(statistics_body(found), separators=(",", ":"))
