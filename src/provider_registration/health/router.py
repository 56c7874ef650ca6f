"""`/health` and its two probes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from provider_registration.database import Database, DatabaseUnavailable
from provider_registration.health.schemas import HealthResponse, ProbeResponse

router = APIRouter(tags=["health"])


async def database_answers(request: Request) -> bool:
    """Whether the database answers in time."""
    database: Database = request.app.state.probed_database
    try:
        await database.ping()
    except DatabaseUnavailable:
        return False
    return True


DatabaseAnswers = Annotated[bool, Depends(database_answers)]


def _answers(description: str, body: HealthResponse | ProbeResponse) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": body.model_dump()}}}


@router.get(
    "/health",
    summary="Health of the service and its database",
    responses={
        200: _answers("Healthy", HealthResponse(status="healthy", database="connected")),
        503: _answers("The database does not answer", HealthResponse(status="unhealthy", database="disconnected"))
        | {"model": HealthResponse},
    },
)
async def health(connected: DatabaseAnswers, response: Response) -> HealthResponse:
    """For people and monitors: the version, and whether the database answers."""
    if connected:
        return HealthResponse(status="healthy", database="connected")
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return HealthResponse(status="unhealthy", database="disconnected")


@router.get("/health/live", summary="Liveness probe", responses={200: _answers("Live", ProbeResponse(status="live"))})
async def live() -> ProbeResponse:
    """Whether the process answers at all; the database is not asked, since a restart would not mend it."""
    return ProbeResponse(status="live")


@router.get(
    "/health/ready",
    summary="Readiness probe",
    responses={
        200: _answers("Ready for requests", ProbeResponse(status="ready")),
        503: _answers("Send requests elsewhere", ProbeResponse(status="not ready")) | {"model": ProbeResponse},
    },
)
async def ready(connected: DatabaseAnswers, response: Response) -> ProbeResponse:
    """Whether requests can be served now."""
    if connected:
        return ProbeResponse(status="ready")
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return ProbeResponse(status="not ready")
