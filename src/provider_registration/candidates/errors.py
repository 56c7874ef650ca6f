"""Errors of registration and decisions."""

from __future__ import annotations

from uuid import UUID

from provider_registration.errors import (
    ConflictError,
    InvalidStateError,
    NotFoundError,
    PreconditionFailedError,
)


class CandidateError:
    """An error about one candidate."""

    def __init__(self, candidate_id: UUID) -> None:
        self.candidate_id = candidate_id


class CandidateNotFound(CandidateError, NotFoundError):
    """There is no candidate with this ID."""

    code = "candidate-not-found"
    title = "Candidate not found"

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} not found."


class EmailTaken(ConflictError):
    """The e-mail address is already registered, in any spelling."""

    code = "email-taken"
    title = "E-mail address taken"

    def __str__(self) -> str:
        return (
            "This contact_email is already registered. For a new link to its status page, use POST /applications/lost "
            "if this service offers it, or ask the operator."
        )


class CandidateNotPending(InvalidStateError):
    """The candidate was already decided."""

    code = "candidate-not-pending"
    title = "Candidate not pending"

    def __init__(self, candidate_id: UUID, status: str) -> None:
        self.candidate_id = candidate_id
        self.status = status

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} is already {self.status}."


class CandidateChanged(CandidateError, ConflictError):
    """Someone else changed the candidate during the request."""

    code = "candidate-changed"
    title = "Candidate changed"

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} was changed by someone else; read it and its events, then decide."


class VersionMismatch(PreconditionFailedError):
    """If-Match does not match the candidate's version."""

    code = "version-mismatch"
    title = "Version mismatch"

    def __init__(self, candidate_id: UUID, version: int) -> None:
        self.candidate_id = candidate_id
        self.version = version

    def __str__(self) -> str:
        return f"Candidate {self.candidate_id} is now at version {self.version}; reload it before you decide."


class ApprovalInProgress(CandidateError, ConflictError):
    """An approval of the candidate is in progress."""

    code = "approval-in-progress"
    title = "Approval in progress"

    def __str__(self) -> str:
        return f"An approval of candidate {self.candidate_id} is in progress; check again in a moment."


class ApprovalUnfinished(CandidateError, ConflictError):
    """An approval of the candidate is waiting for billing, so it cannot be rejected."""

    code = "approval-unfinished"
    title = "Approval unfinished"

    def __str__(self) -> str:
        return (
            f"An approval of candidate {self.candidate_id} is waiting for billing and completes automatically; "
            "until then the candidate cannot be rejected."
        )


class ApprovalNeedsResolution(CandidateError, ConflictError):
    """The approval is in doubt: an admin must resolve it."""

    code = "approval-needs-resolution"
    title = "Approval needs resolution"

    def __str__(self) -> str:
        return (
            f"The approval of candidate {self.candidate_id} is in doubt; look for its provider name in billing, "
            "then link the provider or cancel the approval."
        )
