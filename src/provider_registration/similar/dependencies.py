"""Dependencies of the routes that show similar companies."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.similar.service import SimilarService
from provider_registration.web.services import provide

SimilarServiceDep = Annotated[SimilarService, Depends(provide(SimilarService, DatabaseUnavailable()))]
