"""What the health endpoints give."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from provider_registration import __version__
from provider_registration.db.revisions import SchemaState


class HealthResponse(BaseModel):
    """Health of the service and of what it cannot do without."""

    status: Literal["healthy", "unhealthy"]
    service: Literal["provider-registration-service"] = "provider-registration-service"
    version: str = __version__
    database: Literal["connected", "disconnected"]
    database_schema: SchemaState = Field(
        description="`older` or `missing`: the database has to be migrated; `newer`: a later release migrated it"
    )


class ProbeResponse(BaseModel):
    """Answer to a probe."""

    status: Literal["live", "ready", "not ready"]
