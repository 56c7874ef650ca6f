"""Dependencies of the endpoints of deliveries."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.deliveries.service import DeliveryService
from provider_registration.web.services import provide

DeliveryServiceDep = Annotated[DeliveryService, Depends(provide(DeliveryService, DatabaseUnavailable()))]
