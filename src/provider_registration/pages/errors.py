"""Errors of the HTML pages."""

from __future__ import annotations

from provider_registration.errors import PermissionDeniedError


class CrossSiteRequest(PermissionDeniedError):
    """The request came from a page of another site."""

    code = "cross-site-request"
    title = "Cross-site request"

    def __str__(self) -> str:
        return "The request came from another site. Open the page on this site and try again."
