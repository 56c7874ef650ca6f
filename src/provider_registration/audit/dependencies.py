"""Dependencies of the endpoints that record what staff do."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.audit.service import AuditLog
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.services import provide

AuditLogDep = Annotated[AuditLog, Depends(provide(AuditLog, DatabaseUnavailable()))]
