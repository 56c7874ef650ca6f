"""Names of endpoints in metrics, traces and logs, from a small set of values."""

from __future__ import annotations

from starlette.types import Scope

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

IS_HEAD = "provider_registration.is_head"  # in the scope of a request


def as_get(scope: Scope) -> Scope:
    """A copy with GET for HEAD, and a mark that says so; the server keeps its own scope and leaves the body out."""
    return {**scope, "method": "GET", IS_HEAD: True} if scope["method"] == "HEAD" else scope


def endpoint_of(scope: Scope) -> str:
    """The template of the matched route, or `unmatched`: metrics must not grow with request paths."""
    return getattr(scope.get("route"), "path", UNMATCHED)
