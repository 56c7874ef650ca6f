"""What the circuit breaker tells the rest of the service."""

from __future__ import annotations

from enum import StrEnum


class BreakerState(StrEnum):
    """Closed lets calls through, open lets none, half-open lets one through to find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
