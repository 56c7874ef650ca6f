"""What can go wrong, as data: a kind for each way a caller can react. Nothing here knows HTTP."""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """A refusal or a fault that has a name and a sentence.

    `code` names it for machines and is a promise; `title` is the same for every occurrence;
    `str(error)` says in a sentence what happened and, where there is one, the way on.
    `retry_after` is in seconds, None when waiting does not help.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    retry_after: int | None = None


class InvalidInputError(ServiceError):
    """The request cannot be understood; the same request will never be."""


class AuthenticationError(ServiceError):
    """Nobody knows who is asking."""


class PermissionDeniedError(ServiceError):
    """It is known who is asking, and they may not."""


class NotFoundError(ServiceError):
    """There is no such thing."""


class InvalidStateError(ServiceError):
    """The thing is in a state that rules this out for good."""


class ConflictError(ServiceError):
    """Somebody else's work stands in the way."""


class PreconditionFailedError(ServiceError):
    """The caller's idea of the thing is out of date."""


class LimitExceededError(ServiceError):
    """The caller asks too often; the same request may succeed later."""


class UpstreamError(ServiceError):
    """A service this one depends on failed or refused."""


class UnavailableError(ServiceError):
    """The service cannot answer now; the same request may succeed later."""
