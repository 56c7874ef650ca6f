"""Dependencies of the approval routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.approvals.service import ApprovalService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.services import provide

ApprovalServiceDep = Annotated[ApprovalService, Depends(provide(ApprovalService, DatabaseUnavailable()))]
