"""Makes the service that sends e-mails from the settings."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import TextClause

from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database
from provider_registration.deliveries.service import DeliveryService
from provider_registration.notifications.composing import Composer
from provider_registration.notifications.mail_server import MailServer
from provider_registration.notifications.service import Correspondence, NotificationService
from provider_registration.settings import Settings

STATUS_PAGES = "/applications"
CONSOLE = "/admin"


def correspondence_of(settings: Settings) -> Correspondence:
    """What the settings say about the content of e-mails."""
    base = settings.links_begin_with
    return Correspondence(
        status_pages=f"{base}{STATUS_PAGES}" if base and settings.public_pages else "",
        console=f"{base}{CONSOLE}" if base and settings.admin_pages else "",
        staff=settings.staff_recipients,
        staff_digest=settings.staff_digest,
    )


def open_notifications(
    settings: Settings, database: Database, deliveries: DeliveryService, candidates: CandidateService
) -> NotificationService | None:
    """The service that sends e-mails; None without SMTP_URL."""
    if settings.smtp_url is None:
        return None
    return NotificationService(
        database,
        deliveries,
        candidates,
        composer=Composer(settings.mail_from),
        server=MailServer(settings.smtp_url.get_secret_value()),
        correspondence=correspondence_of(settings),
    )


def subscriptions_of(settings: Settings) -> Sequence[TextClause]:
    """The dispatcher's statements that make the deliveries of e-mails."""
    return correspondence_of(settings).subscriptions if settings.smtp_url else []
