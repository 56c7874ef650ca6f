"""`/metrics` and its token."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from provider_registration.auth.errors import NotAuthenticated
from provider_registration.observability.metrics import exposition
from provider_registration.web.openapi import refuses
from provider_registration.web.services import provide

router = APIRouter(tags=["health"])

scrape_token = HTTPBearer(auto_error=False, scheme_name="ScrapeToken", description="METRICS_TOKEN")


class ScrapeToken(str):
    """The setting METRICS_TOKEN; empty if it is not set."""


@refuses(NotAuthenticated())
async def require_scrape_token(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(scrape_token)],
    expected: Annotated[ScrapeToken, Depends(provide(ScrapeToken))],
) -> None:
    """Accept only METRICS_TOKEN; refuse everyone if it is not set."""
    shown = credentials.credentials if credentials else ""
    if not expected or not hmac.compare_digest(shown.encode(), expected.encode()):
        raise NotAuthenticated("METRICS_TOKEN is required as a bearer token.")


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus text format",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "# TYPE provider_service_up gauge\nprovider_service_up 1.0\n",
                }
            },
        }
    },
)
def metrics() -> Response:
    """The metrics of all workers of this `serve`."""
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)
