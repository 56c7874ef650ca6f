"""Where the console's pages are, below the gateway's prefix."""

from __future__ import annotations

import re

HOME = "/admin"
SIGN_IN = f"{HOME}/sign-in"
SIGN_OUT = f"{HOME}/sign-out"
CANDIDATES = f"{HOME}/candidates"
APPROVALS = f"{HOME}/approvals"

# Pages of the console, and the documents that it opens: nobody is led to another host after signing in.
_OWN_PAGE = re.compile(r"/admin(/[A-Za-z0-9-]+)*(\?[A-Za-z0-9_=&%.+~*-]*)?|/docs|/redoc|/openapi\.json")
_CANDIDATE = re.compile(f"{CANDIDATES}/[0-9a-f-]{{36}}(?=/)")
MAX_LENGTH = 1000


def own_page(address: str) -> str:
    """The address if it is one of the console's pages or of the documents, else the first page."""
    is_ours = len(address) <= MAX_LENGTH and _OWN_PAGE.fullmatch(address)
    return address if is_ours and not address.startswith((SIGN_IN, SIGN_OUT)) else HOME


def page_above(path: str) -> str:
    """The candidate's page if a path below it was asked for, else the first page."""
    match = _CANDIDATE.match(path)
    return match[0] if match else HOME
