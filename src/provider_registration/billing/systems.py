"""Chooses the billing system and passes it its settings; other modules only know the port."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from provider_registration.billing.client import BillingClient
from provider_registration.billing.http_system import HttpBillingSystem
from provider_registration.billing.port import BillingSystem
from provider_registration.settings import Settings


def open_billing(settings: Settings, *, traces: Sequence[aiohttp.TraceConfig] = ()) -> BillingClient:
    """A client of the billing system; `traces` are told of its HTTP requests."""
    return BillingClient(
        _choose(settings, traces),
        max_tries=settings.billing_max_tries,
        deadline=settings.billing_deadline_seconds,
        retry_ambiguous=settings.billing_retry_ambiguous,
    )


def find_mistakes(settings: Settings) -> list[str]:
    """A sentence for each setting that is valid but probably not what the billing system needs."""
    if settings.billing_service_url.endswith("/provider"):
        return ["BILLING_SERVICE_URL ends in /provider, which the service adds itself"]
    return []


def _choose(settings: Settings, traces: Sequence[aiohttp.TraceConfig]) -> BillingSystem:
    return HttpBillingSystem(
        settings.billing_service_url,
        connect_timeout=settings.billing_connect_timeout_seconds,
        timeout=settings.billing_timeout_seconds,
        traces=traces,
    )
