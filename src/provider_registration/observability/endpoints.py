"""Names of endpoints in metrics, traces and logs, from a small set of values."""

from __future__ import annotations

from starlette.types import Scope

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def endpoint_of(scope: Scope) -> str:
    """The template of the matched route, or `unmatched`: metrics must not grow with request paths."""
    return getattr(scope.get("route"), "path", UNMATCHED)
