"""What the routes of approvals are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from provider_registration.approvals.service import ApprovalService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.openapi import refuses


@refuses(DatabaseUnavailable())
async def get_approval_service(request: Request) -> ApprovalService:
    """The service that the lifespan made."""
    service: ApprovalService = request.app.state.approval_service
    return service


ApprovalServiceDep = Annotated[ApprovalService, Depends(get_approval_service)]
