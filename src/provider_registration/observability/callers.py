"""For whom something is done: a statement of a batch belongs to several requests."""

from __future__ import annotations

from contextvars import ContextVar

# The spans of the requests, as tracing knows them; empty without it.
callers_var: ContextVar[tuple[object, ...]] = ContextVar("callers", default=())
