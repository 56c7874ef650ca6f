"""Errors of the feed."""

from __future__ import annotations

from provider_registration.errors import GoneError
from provider_registration.web.rate_limits import TooManyRequests


class CursorExpired(GoneError):
    """Events after the cursor are not kept any more, or it comes from another copy of the database."""

    code = "cursor-expired"
    title = "Cursor expired"

    def __str__(self) -> str:
        return "Events after this cursor are not kept any more. Read the candidates again, then start without `after`."


class TooManyStreams(TooManyRequests):
    """The session has as many streams as it may have."""

    def __init__(self, retry_after: int, limit: int) -> None:
        super().__init__(retry_after)
        self.limit = limit

    def __str__(self) -> str:
        return f"This session already has {self.limit} open streams; close one first."
