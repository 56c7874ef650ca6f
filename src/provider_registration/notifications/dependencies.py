"""Dependencies of lost links, and what the settings say about e-mail."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Annotated

from fastapi import Depends, Request

from provider_registration.candidates.dependencies import RateLimitsDep
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.notifications.schemas import LostLinkRequest
from provider_registration.notifications.service import NotificationService
from provider_registration.web.body import json_body
from provider_registration.web.rate_limit_middleware import network_of_client
from provider_registration.web.rate_limits import RateLimits
from provider_registration.web.services import provide, services_of
from provider_registration.web.text import canonical_email

ANSWER_SECONDS = 0.25  # more than the database needs: the response takes as long for unknown e-mail addresses


@dataclass(frozen=True, slots=True)
class Mailing:
    """Whether e-mails are sent, and whether companies can ask for a lost link."""

    sends: bool
    offers_links: bool


def mailing_of(request: Request) -> Mailing:
    """What the settings say."""
    return services_of(request).get(Mailing)


class LostLinks:
    """Has a lost link sent, with one response for every e-mail address."""

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


NotificationServiceDep = Annotated[NotificationService, Depends(provide(NotificationService, DatabaseUnavailable()))]


async def get_lost_links(request: Request, service: NotificationServiceDep, limits: RateLimitsDep) -> LostLinks:
    """The service for the request's network."""
    return LostLinks(service, limits, network_of_client(request))


LostLinksDep = Annotated[LostLinks, Depends(get_lost_links)]
LostLinkBody = Annotated[LostLinkRequest, Depends(json_body(LostLinkRequest))]
