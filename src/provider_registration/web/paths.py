"""Where a request goes inside the application."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope


def public_url(request: Request) -> str:
    """Where people reach the service, without a path; empty where PUBLIC_URL does not say."""
    url: str = request.app.state.public_url
    return url


def route_path(scope: Scope) -> str:
    """The path that routes are compared with: without the gateway's prefix, where it is there."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path
