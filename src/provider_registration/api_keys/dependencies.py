"""Dependencies of the routes of API keys."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from provider_registration.api_keys.schemas import ApiKeyRequest
from provider_registration.api_keys.service import ApiKeyService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.body import json_body
from provider_registration.web.services import provide

ApiKeyServiceDep = Annotated[ApiKeyService, Depends(provide(ApiKeyService, DatabaseUnavailable()))]
ApiKeyId = Annotated[UUID, Path(description="The API key's ID")]
ApiKeyBody = Annotated[ApiKeyRequest, Depends(json_body(ApiKeyRequest))]
