"""The interface that every billing system implements; `systems.py` chooses the implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

MAX_PROVIDER_ID = 2**31 - 1  # PostgreSQL's integer


class BillingSystem(Protocol):
    """Creates providers, one request per call; `BillingClient` adds retries and a deadline."""

    async def create_provider(self, name: str, idempotency_key: UUID, *, responding: Callable[[], None]) -> int:
        """Send one request; return the ID of the provider `name`, created now or earlier with the same key.

        An ID is from 1 to MAX_PROVIDER_ID; `BillingClient` treats any other as BillingUnusable. Call `responding` when
        a response starts; it may never finish.

        Raises:
            BillingNotSent: nothing reached billing.
            BillingRefused, BillingNameTaken: it created nothing for this request.
            BillingUnusable: its response is unusable; there may be a provider.
            BillingUncertain: it failed, or did not respond; there may be a provider. `BillingClient` treats any other
                exception like this one.
        """

    async def aclose(self) -> None:
        """Close every connection that is not in use. It is called after the last request."""
