"""The port: what any billing system has to do. A class that does it is chosen in `systems.py`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class BillingSystem(Protocol):
    """Creates providers, one request at a time; `BillingClient` repeats requests and limits their time."""

    async def create_provider(self, name: str, idempotency_key: UUID, *, responding: Callable[[], None]) -> int:
        """Send one request: id of the provider `name`, created now or by an earlier request with the same key.

        Call `responding` when a response begins, which may never end.

        Raises:
            BillingNotSent: nothing reached the system.
            BillingRefused, BillingNameTaken: it created nothing for this request.
            BillingUnusable: it responded, but not as it should; there may be a provider.
            BillingUncertain: it failed, or did not respond; there may be a provider.
        """

    async def aclose(self) -> None:
        """Close every connection."""


class BreakerState(StrEnum):
    """Closed lets calls through, open lets none, half-open lets one through to find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
