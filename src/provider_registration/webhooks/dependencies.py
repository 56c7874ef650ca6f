"""Dependencies of the webhook routes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.body import json_body
from provider_registration.web.services import provide
from provider_registration.webhooks.errors import WebhooksOff
from provider_registration.webhooks.schemas import ReplayRequest, WebhookChangeRequest, WebhookRequest
from provider_registration.webhooks.service import WebhookService

WebhookServiceDep = Annotated[WebhookService, Depends(provide(WebhookService, WebhooksOff(), DatabaseUnavailable()))]
WebhookId = Annotated[UUID, Path(description="The webhook's ID")]
WebhookBody = Annotated[WebhookRequest, Depends(json_body(WebhookRequest))]
WebhookChangeBody = Annotated[WebhookChangeRequest, Depends(json_body(WebhookChangeRequest))]
ReplayBody = Annotated[ReplayRequest, Depends(json_body(ReplayRequest))]
