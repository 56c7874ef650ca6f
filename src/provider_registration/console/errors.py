"""Errors of the console."""

from __future__ import annotations

from provider_registration.errors import PermissionDeniedError


class CookieMissing(PermissionDeniedError):
    """The sign-in form came without our cookie: the browser would not keep a session either."""

    code = "cookie-missing"
    title = "Cookie missing"

    def __str__(self) -> str:
        return (
            "Your browser did not send our cookie. Open this page over https:// and allow cookies: browsers do "
            "not keep our cookies over http://, except on localhost."
        )


class SignInNeeded(Exception):
    """There is no session, or it has ended: the user signs in, then returns to the requested page."""
