"""Kinds of errors, one for each way a caller can react. They carry data and do not depend on HTTP."""

from __future__ import annotations

from typing import ClassVar, Self


class ServiceError(Exception):
    """An expected error with a stable code and a message.

    `code` identifies it for programs and never changes; `title` is the same for every occurrence;
    `str(error)` says in one sentence what happened and, if possible, what to do next.
    `retry_after` is in seconds; None if waiting does not help.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    retry_after: int | None = None
    is_replay = False  # it repeats the answer to an earlier request with the same idempotency key

    def as_replay(self) -> Self:
        """The same error, marked as a repetition."""
        self.is_replay = True
        return self


class InvalidInputError(ServiceError):
    """The request is invalid; repeating it does not help."""


class InvalidHeaderError(ServiceError):
    """A header is missing or malformed; repeating the request does not help."""


class AuthenticationError(ServiceError):
    """The caller is not authenticated."""


class PermissionDeniedError(ServiceError):
    """The caller is authenticated but not allowed."""


class NotFoundError(ServiceError):
    """The object does not exist."""


class InvalidStateError(ServiceError):
    """The state of the object rules this out permanently."""


class GoneError(ServiceError):
    """The object existed and will not again."""


class ConflictError(ServiceError):
    """Another operation conflicts with this one."""


class PreconditionFailedError(ServiceError):
    """The caller's version of the object is out of date."""


class LimitExceededError(ServiceError):
    """The caller sends too many requests; the same request may succeed later."""


class UpstreamError(ServiceError):
    """A service this one depends on failed or refused."""


class UnavailableError(ServiceError):
    """The service is temporarily unavailable; the same request may succeed later."""
