"""Where the console's pages are, below the gateway's prefix."""

from __future__ import annotations

import re

HOME = "/admin"
SIGN_IN = f"{HOME}/sign-in"
CANDIDATES = f"{HOME}/candidates"
APPROVALS = f"{HOME}/approvals"

# Pages of the console alone: nobody is led to another host after signing in.
_OWN_PAGE = re.compile(r"/admin(/[A-Za-z0-9-]+)*(\?[A-Za-z0-9_=&%.+~*-]*)?")
MAX_LENGTH = 1000


def own_page(address: str) -> str:
    """The address if it is one of the console's pages, else the first page."""
    is_ours = len(address) <= MAX_LENGTH and _OWN_PAGE.fullmatch(address) and not address.startswith(SIGN_IN)
    return address if is_ours else HOME
