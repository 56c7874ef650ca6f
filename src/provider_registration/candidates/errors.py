"""How registering and deciding can be refused or fail."""

from __future__ import annotations

from uuid import UUID

from provider_registration.errors import (
    ConflictError,
    InvalidStateError,
    NotFoundError,
    PreconditionFailedError,
    UpstreamError,
)


class CandidateNotFound(NotFoundError):
    """No candidate has this id."""

    code = "candidate-not-found"
    title = "Candidate not found"

    def __init__(self, candidate_id: UUID) -> None:
        self.candidate_id = candidate_id

    def __str__(self) -> str:
        return f"There is no candidate {self.candidate_id}."


class EmailTaken(ConflictError):
    """A candidate with this address registered before, whatever its letter case."""

    code = "email-taken"
    title = "E-mail address taken"

    def __str__(self) -> str:
        return "A candidate with this contact_email is registered already."


class CandidateNotPending(InvalidStateError):
    """The candidate was decided before."""

    code = "candidate-not-pending"
    title = "Candidate not pending"

    def __init__(self, candidate_id: UUID, status: str) -> None:
        self.candidate_id = candidate_id
        self.status = status

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} is {self.status} already."


class CandidateChanged(ConflictError):
    """Someone else changed the candidate while the request was under way."""

    code = "candidate-changed"
    title = "Candidate changed"

    def __init__(self, candidate_id: UUID) -> None:
        self.candidate_id = candidate_id

    def __str__(self) -> str:
        return f"Someone else changed candidate {self.candidate_id} meanwhile; read it again."


class VersionMismatch(PreconditionFailedError):
    """If-Match names a version that is not the candidate's."""

    code = "version-mismatch"
    title = "Version mismatch"

    def __init__(self, candidate_id: UUID, version: int) -> None:
        self.candidate_id = candidate_id
        self.version = version

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} is at version {self.version}; read it again before deciding."


class ApprovalInProgress(ConflictError):
    """An approval of the candidate is under way, so nobody else can decide about it."""

    code = "approval-in-progress"
    title = "Approval in progress"

    def __init__(self, candidate_id: UUID) -> None:
        self.candidate_id = candidate_id

    def __str__(self) -> str:
        return f"An approval of candidate {self.candidate_id} is in progress; read it again in a moment."


class ProviderNameBusy(ConflictError):
    """Another candidate of the same name is being approved; billing must not be asked for both at once."""

    code = "provider-name-busy"
    title = "Provider name busy"

    def __str__(self) -> str:
        return "Another candidate of the same company name is being approved; try again when that is done."


class ProviderNameTaken(ConflictError):
    """Billing has a provider of this name, and it is not this candidate's."""

    code = "provider-name-taken"
    title = "Provider name taken"

    def __str__(self) -> str:
        return "Billing already has another provider of this name; nothing was changed."


class ApprovalFailed(UpstreamError):
    """Billing could not be reached or refused: no provider was made, the candidate can be decided again."""

    code = "approval-failed"
    title = "Approval failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"The approval failed and nothing was changed, since {self.reason}; approve again later."


class ApprovalUncertain(UpstreamError):
    """Billing may have made the provider: the intent stands, and repeating it is safe."""

    code = "approval-uncertain"
    title = "Approval uncertain"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"It is not known whether billing made the provider, since {self.reason}; the approval stays "
            "in progress, and approving again in a minute completes it without making a second provider."
        )
