"""Paths with and without the gateway's prefix, and the public URL."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope

from provider_registration.web.services import services_of


class PublicUrl(str):
    """The setting PUBLIC_URL."""


def public_url(request: Request) -> str:
    """The public URL of the service without a path; empty if PUBLIC_URL is not set."""
    return services_of(request).get(PublicUrl)


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is a prefix or is below it: /admin/x is below /admin, /administration is not."""
    return path == prefix or path.startswith(f"{prefix}/")


def route_path(scope: Scope) -> str:
    """The path that routes match: without the gateway's prefix, if it is present."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path
