"""Errors of the HTML pages."""

from __future__ import annotations

from pathlib import Path

from provider_registration.errors import PermissionDeniedError


class UnusableTranslation(Exception):
    """A file in the folder of translations cannot be used; the pages cannot be shown."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The translation {path} cannot be used: {reason}.")


class CrossSiteRequest(PermissionDeniedError):
    """The request came from a page of another site."""

    code = "cross-site-request"
    title = "Cross-site request"

    def __str__(self) -> str:
        return "The browser reported that the request came from another site."
