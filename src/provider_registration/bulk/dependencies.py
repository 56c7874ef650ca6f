"""Dependencies of the endpoint that decides many candidates."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.bulk.schemas import DecisionsRequest
from provider_registration.bulk.service import BulkService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.body import json_body
from provider_registration.web.services import provide

BulkServiceDep = Annotated[BulkService, Depends(provide(BulkService, DatabaseUnavailable()))]
DecisionsBody = Annotated[DecisionsRequest, Depends(json_body(DecisionsRequest))]
