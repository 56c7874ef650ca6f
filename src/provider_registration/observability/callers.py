"""The requests that the current work belongs to: a batched statement belongs to several."""

from __future__ import annotations

from contextvars import ContextVar

# The spans of the requests; empty without tracing.
callers_var: ContextVar[tuple[object, ...]] = ContextVar("callers", default=())
