"""What only the console runs into."""

from __future__ import annotations

from provider_registration.errors import PermissionDeniedError


class CookieMissing(PermissionDeniedError):
    """A form for signing in without the cookie that came with it: to try again leads nowhere."""

    code = "cookie-missing"
    title = "Cookie missing"

    def __str__(self) -> str:
        return (
            "Your browser did not send our cookie. Open this page over https:// and allow cookies: over http:// "
            "browsers keep none of ours, except on the machine itself."
        )


class SignInNeeded(Exception):
    """Nobody is signed in, or the session has ended: the sign-in page comes first, then what was asked for."""
