"""`/health` and its two probes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from provider_registration.db.revisions import Schema, SchemaState
from provider_registration.health.readiness import Readiness
from provider_registration.health.schemas import HealthResponse, ProbeResponse
from provider_registration.web.openapi import problems
from provider_registration.web.problems import MalformedRequest
from provider_registration.web.routing import DirectRoute, direct, json_response
from provider_registration.web.services import provide

router = APIRouter(tags=["health"], route_class=DirectRoute)

MALFORMED = problems("/health", MalformedRequest())  # the only refusal of these routes

LIVE = ProbeResponse(status="live")


async def found_schema(readiness: Annotated[Readiness, Depends(provide(Readiness))]) -> Schema | None:
    """The database's schema; None if it does not respond in time."""
    return await readiness.find_schema()


FoundSchema = Annotated[Schema | None, Depends(found_schema)]


def _health(schema: Schema | None) -> HealthResponse:
    return HealthResponse(
        status="healthy" if schema and schema.is_usable else "unhealthy",
        database="connected" if schema else "disconnected",
        database_schema=schema.state if schema else SchemaState.UNKNOWN,
    )


def _example(description: str, body: HealthResponse | ProbeResponse) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": body.model_dump(mode="json")}}}


@router.get(
    "/health",
    summary="Health of the service and its database",
    responses=MALFORMED
    | {
        200: _example("Healthy", _health(Schema(SchemaState.CURRENT))),
        503: _example("The database does not respond, or must be migrated", _health(None)) | {"model": HealthResponse},
    },
)
async def health(schema: FoundSchema, response: Response) -> HealthResponse:
    """For people and monitoring: the version, whether the database responds, and whether its schema is compatible."""
    found = _health(schema)
    if found.status != "healthy":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return found


@router.get(
    "/health/live",
    summary="Liveness probe",
    response_model=ProbeResponse,
    responses=MALFORMED | {200: _example("Live", LIVE)},
)
@direct
async def live() -> Response:
    """Whether the process responds. It does not check the database, because a restart would not help."""
    return json_response(LIVE.model_dump_json())


@router.get(
    "/health/ready",
    summary="Readiness probe",
    responses=MALFORMED
    | {
        200: _example("Ready for requests", ProbeResponse(status="ready")),
        503: _example("Send requests elsewhere", ProbeResponse(status="not ready")) | {"model": ProbeResponse},
    },
)
async def ready(schema: FoundSchema, response: Response) -> ProbeResponse:
    """Whether requests can be served: the database responds; its schema is not known to be too old."""
    if schema and schema.is_usable:
        return ProbeResponse(status="ready")
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return ProbeResponse(status="not ready")
