"""A client of a billing service over HTTP, with the timeouts of a test."""

from __future__ import annotations

from contextlib import asynccontextmanager

from provider_registration.billing.client import BillingClient
from provider_registration.billing.http_system import HttpBillingSystem


@asynccontextmanager
async def billing_at(url, *, request_seconds=5.0, max_tries=4, deadline=20.0, retry_ambiguous=True):
    """The client; times are in seconds."""
    system = HttpBillingSystem(url, connect_timeout=2.0, timeout=request_seconds)
    client = BillingClient(system, max_tries=max_tries, deadline=deadline, retry_ambiguous=retry_ambiguous)
    try:
        yield client
    finally:
        await client.aclose()
