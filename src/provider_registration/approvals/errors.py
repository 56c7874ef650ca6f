"""Errors of approvals: refused, failed or unfinished."""

from __future__ import annotations

from provider_registration.candidates.errors import CandidateError
from provider_registration.errors import ConflictError, NotFoundError, UnavailableError, UpstreamError


class ApprovalNotInDoubt(CandidateError, ConflictError):
    """Only an approval in doubt can be resolved by an admin."""

    code = "approval-not-in-doubt"
    title = "Approval not in doubt"

    def __str__(self) -> str:
        return f"The approval of candidate {self.candidate_id} is not in doubt; it completes automatically."


class ApprovalNotFound(CandidateError, NotFoundError):
    """The candidate has no unfinished approval."""

    code = "approval-not-found"
    title = "Approval not found"

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} has no unfinished approval."


class ProviderNameBusy(ConflictError):
    """Another candidate with the same name is being approved; billing must not get both requests at the same time."""

    code = "provider-name-busy"
    title = "Provider name busy"

    def __str__(self) -> str:
        return (
            "An approval of another candidate with the same company name is unfinished. If it is in doubt, resolve it; "
            "otherwise try again later."
        )


class ProviderNameTaken(ConflictError):
    """Billing has a provider with this name that does not belong to this candidate."""

    code = "provider-name-taken"
    title = "Provider name taken"

    def __str__(self) -> str:
        return (
            "Billing already has another provider with this name, so the candidate stays pending. Reject the "
            "candidate, or have that provider renamed in billing and approve the candidate again."
        )


class ProviderLinkedElsewhere(ConflictError):
    """The provider belongs to another candidate."""

    code = "provider-linked-elsewhere"
    title = "Provider linked elsewhere"

    def __init__(self, provider_id: int) -> None:
        self.provider_id = provider_id

    def __str__(self) -> str:
        return (
            f"Provider {self.provider_id} is linked to another candidate. Nothing changed; check the ID in billing, or "
            "cancel the approval if billing has no provider for this candidate."
        )


class ApprovalFailed(UpstreamError):
    """Billing was unreachable or refused: it created no provider, and the candidate can be decided again."""

    code = "approval-failed"
    title = "Approval failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Approval failed: {self.reason}. Nothing changed, and the service does not retry: approve the candidate "
            "again or reject it."
        )


class ApprovalWaiting(UpstreamError):
    """Billing may have created the provider; the service retries with the same key until it knows."""

    code = "approval-waiting"
    title = "Approval waiting"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Billing may have created the provider, but {self.reason}. The service retries automatically; the "
            "candidate's record shows the state of the approval."
        )


class ApprovalInDoubt(UpstreamError):
    """Billing may have created the provider, and a retry would not show whether it did."""

    code = "approval-in-doubt"
    title = "Approval in doubt"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Billing may have created the provider, but this cannot be confirmed: {self.reason}. An admin must "
            "resolve the approval."
        )


class BillingPaused(UnavailableError):
    """The circuit breaker is open: billing was not called, and nothing changed."""

    code = "billing-paused"
    title = "Billing paused"

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after

    def __str__(self) -> str:
        return (
            f"Calls to billing are paused after repeated failures. Nothing changed; try again in {self.retry_after} s."
        )
