"""How registering and deciding can be refused or fail."""

from __future__ import annotations

from uuid import UUID

from provider_registration.errors import (
    ConflictError,
    InvalidStateError,
    NotFoundError,
    PreconditionFailedError,
)


class OfCandidate:
    """What an error about one candidate carries."""

    def __init__(self, candidate_id: UUID) -> None:
        self.candidate_id = candidate_id


class CandidateNotFound(OfCandidate, NotFoundError):
    """No candidate has this id."""

    code = "candidate-not-found"
    title = "Candidate not found"

    def __str__(self) -> str:
        return f"There is no candidate {self.candidate_id}."


class EmailTaken(ConflictError):
    """A candidate with this address registered before, whatever its spelling."""

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


class CandidateChanged(OfCandidate, ConflictError):
    """Someone else changed the candidate while the request was under way."""

    code = "candidate-changed"
    title = "Candidate changed"

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


class ApprovalInProgress(OfCandidate, ConflictError):
    """An approval of the candidate is in progress."""

    code = "approval-in-progress"
    title = "Approval in progress"

    def __str__(self) -> str:
        return f"An approval of candidate {self.candidate_id} is in progress; read it again in a moment."


class ApprovalUnfinished(OfCandidate, ConflictError):
    """An approval of the candidate is waiting for billing, so it cannot be rejected."""

    code = "approval-unfinished"
    title = "Approval unfinished"

    def __str__(self) -> str:
        return (
            f"An approval of candidate {self.candidate_id} waits for billing and will be completed by itself; "
            "until then it cannot be decided."
        )


class ApprovalNeedsResolution(OfCandidate, ConflictError):
    """The approval is in doubt: only an admin's word moves it."""

    code = "approval-needs-resolution"
    title = "Approval needs resolution"

    def __str__(self) -> str:
        return (
            f"The approval of candidate {self.candidate_id} is in doubt; look for its name in billing, "
            "then resolve it by linking the provider or by letting it go."
        )
