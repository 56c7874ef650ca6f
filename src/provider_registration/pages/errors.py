"""How a request that only pages make can be refused."""

from __future__ import annotations

from provider_registration.errors import InvalidInputError, NotFoundError, PermissionDeniedError


class CrossSiteRequest(PermissionDeniedError):
    """A form that another site sent, or one that was not made for this session."""

    code = "cross-site-request"
    title = "Cross-site request"

    def __str__(self) -> str:
        return "The form did not come from a page of this session; open the page again and repeat what you did."


class UnreadableForm(InvalidInputError):
    """A body that is no form, or one with too many fields."""

    code = "unreadable-form"
    title = "Unreadable form"

    def __str__(self) -> str:
        return "What was sent is not a form of this service."


class PageNotFound(NotFoundError):
    """There is no such page."""

    code = "page-not-found"
    title = "Page not found"

    def __str__(self) -> str:
        return "There is no page at this address."
