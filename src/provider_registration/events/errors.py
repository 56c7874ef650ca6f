"""Errors of the feed."""

from __future__ import annotations

from provider_registration.errors import GoneError


class CursorExpired(GoneError):
    """Events after the cursor are not kept any more, or it comes from another copy of the database."""

    code = "cursor-expired"
    title = "Cursor expired"

    def __str__(self) -> str:
        return "Events after this cursor are not kept any more. Read the candidates again, then start without `after`."
