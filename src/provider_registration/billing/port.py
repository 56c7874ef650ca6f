"""The port: what any billing system has to do. A class that does it is chosen in `systems.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

MAX_PROVIDER_ID = 2**31 - 1  # PostgreSQL's integer


class BillingSystem(Protocol):
    """Creates providers, one request at a time; `BillingClient` repeats requests and limits their time."""

    async def create_provider(self, name: str, idempotency_key: UUID, *, responding: Callable[[], None]) -> int:
        """Send one request: id of the provider `name`, created now or by an earlier request with the same key.

        An id is from 1 to MAX_PROVIDER_ID; `BillingClient` takes any other for BillingUnusable. Call
        `responding` when a response begins, which may never end.

        Raises:
            BillingNotSent: nothing reached the system.
            BillingRefused, BillingNameTaken: it created nothing for this request.
            BillingUnusable: it responded, but not as it should; there may be a provider.
            BillingUncertain: it failed, or did not respond; there may be a provider. `BillingClient` takes any other
                exception for this one.
        """

    async def aclose(self) -> None:
        """Close every connection that is not in use. It is called after the last request."""
