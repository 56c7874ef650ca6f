"""The background task of every process: observes deliveries, ends those to deleted webhooks, deletes old ones."""

from __future__ import annotations

import logging

from provider_registration.deliveries.service import DeliveryService
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 10.0


async def keep_deliveries_up(deliveries: DeliveryService, retention_days: int | None) -> None:
    """Observe and prune until cancelled; None: keep deliveries for ever."""
    limited = RateLimitedLogger(logger)

    async def work() -> bool:
        await deliveries.observe()
        has_more = await deliveries.end_without_webhook()
        return (retention_days is not None and await deliveries.prune(retention_days)) or has_more

    later = "the database does not respond; upkeep of deliveries will be retried"
    await repeat(work, seconds=SECONDS, logger=limited, later=later, failed="upkeep of deliveries failed")
