"""Response bodies of the health endpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from provider_registration import __version__
from provider_registration.db.revisions import SchemaState


class HealthResponse(BaseModel):
    """Health of the service and its database."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    status: Literal["healthy", "unhealthy"]
    service: Literal["provider-registration-service"] = "provider-registration-service"
    version: str = __version__
    database: Literal["connected", "disconnected"]
    database_schema: SchemaState = Field(
        description="`older` or `missing`: the database must be migrated; `newer`: a later release has migrated it"
    )


class ProbeResponse(BaseModel):
    """Response to a probe."""

    status: Literal["live", "ready", "not ready"]
