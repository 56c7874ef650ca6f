"""How a request that only pages make can be refused."""

from __future__ import annotations

from provider_registration.errors import PermissionDeniedError


class CrossSiteRequest(PermissionDeniedError):
    """What another site's page sent."""

    code = "cross-site-request"
    title = "Cross-site request"

    def __str__(self) -> str:
        return "The request did not come from a page of this host. Open the page here, and repeat what you did."
