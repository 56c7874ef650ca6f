"""Where a request goes inside the application."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope

from provider_registration.web.services import services_of


class PublicUrl(str):
    """PUBLIC_URL."""


def public_url(request: Request) -> str:
    """Where people reach the service, without a path; empty where PUBLIC_URL does not say."""
    return services_of(request).get(PublicUrl)


def route_path(scope: Scope) -> str:
    """The path that routes are compared with: without the gateway's prefix, where it is there."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path
