"""Errors of the feed."""

from __future__ import annotations

from provider_registration.errors import GoneError, InvalidInputError
from provider_registration.web.rate_limits import TooManyRequests


class CursorExpired(GoneError):
    """Events after the cursor are not kept any more."""

    code = "cursor-expired"
    title = "Cursor expired"

    def __str__(self) -> str:
        return "Events after this cursor are not kept any more. Read the candidates again, then start without `after`."


class CursorUnknown(InvalidInputError):
    """The cursor is after the newest event: this database never issued it, or was restored to a time before it."""

    code = "cursor-unknown"
    title = "Cursor unknown"

    def __str__(self) -> str:
        return (
            "This cursor is after the newest event, so this database has not issued it. If the database was restored, "
            "read the candidates again, then start without `after`."
        )


class TooManyStreams(TooManyRequests):
    """The session has as many streams as it may have."""

    def __init__(self, retry_after: int, limit: int) -> None:
        super().__init__(retry_after)
        self.limit = limit

    def __str__(self) -> str:
        return f"This session already has {self.limit} open streams; close one first."
