"""How an approval can be refused, fail or stay unfinished."""

from __future__ import annotations

from provider_registration.candidates.errors import OfCandidate
from provider_registration.errors import ConflictError, NotFoundError, UnavailableError, UpstreamError


class ApprovalNotInDoubt(OfCandidate, ConflictError):
    """Only an approval that is in doubt can be resolved by hand."""

    code = "approval-not-in-doubt"
    title = "Approval not in doubt"

    def __str__(self) -> str:
        return f"The approval of candidate {self.candidate_id} is not in doubt; it will be completed by itself."


class ApprovalNotFound(OfCandidate, NotFoundError):
    """The candidate has no unfinished approval."""

    code = "approval-not-found"
    title = "Approval not found"

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} has no unfinished approval."


class ProviderNameBusy(ConflictError):
    """Another candidate of the same name is being approved; billing must not be asked for both at once."""

    code = "provider-name-busy"
    title = "Provider name busy"

    def __str__(self) -> str:
        return "An approval of another candidate with the same company name is unfinished; try again after it."


class ProviderNameTaken(ConflictError):
    """Billing has a provider of this name, and it is not this candidate's."""

    code = "provider-name-taken"
    title = "Provider name taken"

    def __str__(self) -> str:
        return "Billing already has another provider of this name; nothing was changed."


class ProviderLinkedElsewhere(ConflictError):
    """The provider belongs to another candidate."""

    code = "provider-linked-elsewhere"
    title = "Provider linked elsewhere"

    def __init__(self, provider_id: int) -> None:
        self.provider_id = provider_id

    def __str__(self) -> str:
        return f"Provider {self.provider_id} is linked to another candidate."


class ApprovalFailed(UpstreamError):
    """Billing could not be reached or refused: no provider was made, the candidate can be decided again."""

    code = "approval-failed"
    title = "Approval failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"The approval failed, since {self.reason}. It will not complete by itself: nothing was changed, "
            "and the candidate can be approved again or rejected."
        )


class ApprovalWaiting(UpstreamError):
    """Billing may have made the provider; the service will ask again with the same key until it knows."""

    code = "approval-waiting"
    title = "Approval waiting"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Billing may have made the provider, but {self.reason}. The approval will complete by itself, unless "
            "billing cannot tell whose provider it is; the candidate's record shows how it stands."
        )


class ApprovalInDoubt(UpstreamError):
    """Billing has a provider of this name, and it may be the one that an earlier try made."""

    code = "approval-in-doubt"
    title = "Approval in doubt"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"It is in doubt whether billing made the provider, since {self.reason}. The approval will not complete "
            "by itself: an admin has to resolve it."
        )


class BillingPaused(UnavailableError):
    """Billing failed too often just now: it was not asked, and nothing was changed."""

    code = "billing-paused"
    title = "Billing paused"

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after

    def __str__(self) -> str:
        return (
            "Calls to billing are paused after repeated failures. Nothing changed; approve again in "
            f"{self.retry_after} s."
        )
