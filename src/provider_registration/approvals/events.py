"""Records the events of approvals and who caused them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.approvals import queries
from provider_registration.approvals.models import Approval, ApprovalEvent, Claim


async def record_event(
    session: AsyncSession,
    approval: Approval | Claim,
    event: ApprovalEvent,
    *,
    user_id: UUID | None = None,
    provider_id: int | None = None,
    detail: str | None = None,
) -> None:
    """Write an event in the same transaction as the change; without a user, the service caused it."""
    parameters = {
        "candidate_id": approval.candidate_id,
        "idempotency_key": approval.idempotency_key,
        "event": event,
        "user_id": user_id,
        "provider_id": provider_id,
        "detail": detail,
    }
    await session.execute(queries.RECORD_EVENT, parameters)
