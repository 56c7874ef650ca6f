"""Cookies that scripts cannot read and other hosts cannot set."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

# Browsers accept this prefix only over HTTPS or from localhost, with Path=/, Secure and no Domain.
PREFIX = "__Host-"


def read_cookie(request: Request, name: str) -> str | None:
    """Read one of our cookies."""
    return request.cookies.get(PREFIX + name)


def set_cookie(response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
    """Set a cookie for `seconds`, or until the browser closes.

    Lax, not Strict: a user who follows a link in a message stays signed in. All changes are POST requests, and their
    origin is checked.
    """
    response.set_cookie(PREFIX + name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def delete_cookie(response: Response, name: str) -> None:
    """Delete a cookie."""
    response.delete_cookie(PREFIX + name, path="/", secure=True, httponly=True, samesite="lax")
