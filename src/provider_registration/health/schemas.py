"""What the health endpoints give."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from provider_registration import __version__


class HealthResponse(BaseModel):
    """Health of the service and of what it cannot do without."""

    status: Literal["healthy", "unhealthy"]
    service: Literal["provider-registration-service"] = "provider-registration-service"
    version: str = __version__
    database: Literal["connected", "disconnected"]


class ProbeResponse(BaseModel):
    """Answer to a probe."""

    status: Literal["live", "ready", "not ready"]
