"""Forms of other sites are refused, by what the browser says of where a request comes from: no page can forge that.

Browsers send `Sec-Fetch-Site` to https:// and to the machine itself: Chrome since 76, Firefox since 90, Safari since
16.4. `Origin` comes with every POST, to http:// as well, from Chrome and Safari always, from Firefox since 70. A form
needs no token beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from provider_registration.pages.errors import CrossSiteRequest
from provider_registration.web.paths import route_path
from provider_registration.web.problems import problem_response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # which change nothing here (RFC 9110 section 9.2.1)
OWN_SITES = ("same-origin", "none")  # none: the person did it by hand


class CrossSiteGuard:
    """Lets what changes something below the pages' paths pass only if it does not come from another site's page."""

    def __init__(self, app: ASGIApp, *, below: Sequence[str], public_url: str) -> None:
        self._app = app
        self._below = tuple(below)
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] == "http" and scope["method"] not in SAFE_METHODS
        if is_asked and route_path(scope).startswith(self._below) and not self._is_own(Headers(scope=scope)):
            await problem_response(CrossSiteRequest(), Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, headers: Headers) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            return site in OWN_SITES
        if origin:  # a gateway may ask for another host than the browser does
            return origin == self._public_url or _host_of(origin) == headers.get("host")
        return "cookie" not in headers  # a program, or a browser so old that it must not act for whoever is signed in


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return None
