"""Has lost links sent, with one response for every e-mail address."""

from __future__ import annotations

import asyncio
from time import monotonic

from provider_registration.notifications.service import NotificationService
from provider_registration.web.rate_limits import RateLimits
from provider_registration.web.text import canonical_email

ANSWER_SECONDS = 0.25  # more than the database needs: the response takes as long for unknown e-mail addresses


class LostLinks:
    """The requests for lost links from one network."""

    def __init__(self, notifications: NotificationService, limits: RateLimits, network: str) -> None:
        self._notifications = notifications
        self._limits = limits
        self._network = network

    async def request(self, contact_email: str) -> None:
        """Have a link sent to this address if an application has it.

        Raises:
            TooManyRequests: too many requests from this network or for this address.
            DatabaseUnavailable: the database does not respond.
        """
        await self._limits.count_lost_link(self._network, canonical_email(contact_email))
        ends = monotonic() + ANSWER_SECONDS
        try:
            await self._notifications.request_link(contact_email)
        finally:
            await asyncio.sleep(ends - monotonic())
