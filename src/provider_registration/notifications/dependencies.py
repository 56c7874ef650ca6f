"""Dependencies of lost links, and what the settings say about e-mail."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from provider_registration.candidates.dependencies import RateLimitsDep
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.notifications.lost_links import LostLinks
from provider_registration.notifications.models import Mailing
from provider_registration.notifications.schemas import LostLinkRequest
from provider_registration.notifications.service import NotificationService
from provider_registration.web.body import json_body
from provider_registration.web.rate_limit_middleware import network_of_client
from provider_registration.web.services import provide, services_of


def mailing_of(request: Request) -> Mailing:
    """What the settings say."""
    return services_of(request).get(Mailing)


NotificationServiceDep = Annotated[NotificationService, Depends(provide(NotificationService, DatabaseUnavailable()))]


async def get_lost_links(request: Request, service: NotificationServiceDep, limits: RateLimitsDep) -> LostLinks:
    """The service for the request's network."""
    return LostLinks(service, limits, network_of_client(request))


LostLinksDep = Annotated[LostLinks, Depends(get_lost_links)]
LostLinkBody = Annotated[LostLinkRequest, Depends(json_body(LostLinkRequest))]
