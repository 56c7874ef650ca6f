"""What requests are called in metrics, traces and log lines: by few values, whatever is asked for."""

from __future__ import annotations

from starlette.types import Scope

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def endpoint_of(scope: Scope) -> str:
    """Template of the route that took the request, or one fixed word: metrics must not grow with what is asked."""
    return getattr(scope.get("route"), "path", UNMATCHED)
