"""The states of the circuit breaker, which other packages may see."""

from __future__ import annotations

from enum import StrEnum


class BreakerState(StrEnum):
    """Closed: calls are allowed. Open: none is. Half-open: one is, as a probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
