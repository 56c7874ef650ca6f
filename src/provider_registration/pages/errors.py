"""How a request that only pages make can be refused."""

from __future__ import annotations

from provider_registration.errors import PermissionDeniedError


class CrossSiteRequest(PermissionDeniedError):
    """A form that another site sent, or one that was not made for this session."""

    code = "cross-site-request"
    title = "Cross-site request"

    def __str__(self) -> str:
        return "The form did not come from a page of this session; open the page again and repeat what you did."
