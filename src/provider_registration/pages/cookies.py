"""Cookies that no script reads and no other host sets."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

# Browsers take such a cookie from HTTPS or from the machine itself, and only if it is for the whole host and Secure.
PREFIX = "__Host-"


def read_cookie(request: Request, name: str) -> str | None:
    """The value of one of our cookies."""
    return request.cookies.get(PREFIX + name)


def set_cookie(response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
    """Have the browser keep a value, for `seconds` or until it is closed.

    Lax, not Strict: somebody who follows a link from a message stays signed in. What changes anything is a POST, and
    those are checked.
    """
    response.set_cookie(PREFIX + name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def delete_cookie(response: Response, name: str) -> None:
    """Have the browser forget a value."""
    response.delete_cookie(PREFIX + name, path="/", secure=True, httponly=True, samesite="lax")
