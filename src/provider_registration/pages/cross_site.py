"""CSRF protection by headers that browsers set and no page can forge.

Browsers send `Sec-Fetch-Site` to https:// and to localhost: Chrome since 76, Firefox since 90, Safari since 16.4.
`Origin` comes with every POST, also to http://: Chrome and Safari always, Firefox since 70. Forms need no CSRF token
in addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from provider_registration.pages.errors import CrossSiteRequest
from provider_registration.web.paths import is_below, route_path
from provider_registration.web.problems import problem_response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # they change nothing (RFC 9110 section 9.2.1)
DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # gateways write them into Host, browsers never into Origin
OWN_SITES = ("same-origin", "none")  # none: the user entered the URL or used a bookmark


class CrossSiteGuard:
    """Refuses unsafe requests to the pages' paths if they come from another site."""

    def __init__(self, app: ASGIApp, *, below: Sequence[str], public_url: str) -> None:
        self._app = app
        self._below = tuple(below)
        self._public_origin = _split(public_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_unsafe = scope["type"] == "http" and scope["method"] not in SAFE_METHODS
        if is_unsafe and self._is_guarded(route_path(scope)) and not self._is_own(Headers(scope=scope)):
            await problem_response(CrossSiteRequest(), Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_guarded(self, path: str) -> bool:
        return any(is_below(path, prefix) for prefix in self._below)

    def _is_own(self, headers: Headers) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            return site in OWN_SITES
        if origin:
            scheme, host = _split(origin)
            is_requested = host == _without_default_port(headers.get("host", ""), scheme)
            return host != "" and (is_requested or (scheme, host) == self._public_origin)  # a gateway may change Host
        return "cookie" not in headers  # not a browser, or an old one, which must not use a session


def _split(url: str) -> tuple[str, str]:
    """Scheme and host of a URL, with the port unless it is the scheme's; empty if there is none."""
    try:
        parts = urlsplit(url.lower())
    except ValueError:  # such as "http://["
        return "", ""
    return parts.scheme, _without_default_port(parts.netloc, parts.scheme)


def _without_default_port(host: str, scheme: str) -> str:
    return host.lower().removesuffix(DEFAULT_PORTS.get(scheme, ":"))
