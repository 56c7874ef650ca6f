"""The background task of every process that sends e-mails."""

from __future__ import annotations

import logging

from provider_registration.notifications.service import NotificationService
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 2.0  # between two looks for e-mails that are due


async def keep_mailing(notifications: NotificationService) -> None:
    """Send e-mails until cancelled."""
    limited = RateLimitedLogger(logger)

    async def work() -> bool:
        await notifications.make_digest()
        return await notifications.send_due()

    later = "the database does not respond; e-mails will be sent later"
    await repeat(work, seconds=SECONDS, logger=limited, later=later, failed="e-mails could not be sent")
