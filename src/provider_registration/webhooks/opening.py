"""Makes the services of webhooks from the settings."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_network

import httpx
from sqlalchemy import TextClause

from provider_registration.db.database import Database
from provider_registration.deliveries.service import DeliveryService
from provider_registration.encryption import SecretBox
from provider_registration.settings import Settings
from provider_registration.webhooks.addresses import AddressRules
from provider_registration.webhooks.delivering import Deliverer
from provider_registration.webhooks.queries import SUBSCRIBE
from provider_registration.webhooks.resolving import Resolver
from provider_registration.webhooks.sending import Sender
from provider_registration.webhooks.service import WebhookService


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The service of the API, and what sends events; None without SECRETS_KEY."""

    service: WebhookService
    deliverer: Deliverer | None

    @property
    def subscriptions(self) -> list[TextClause]:
        """The statements with which the dispatcher queues events, also those that only other processes can send."""
        return [SUBSCRIBE]


def _tls() -> ssl.SSLContext:
    tls = httpx.create_ssl_context(trust_env=False)
    tls.load_default_certs()  # those of the machine too, and of SSL_CERT_FILE
    return tls


def open_webhooks(settings: Settings, database: Database, deliveries: DeliveryService) -> Webhooks:
    """Make both; they keep no connections of their own."""
    networks = [ip_network(each) for each in settings.webhooks_allowed_networks.split(",") if each]
    rules = AddressRules(networks)
    sender = Sender(rules, Resolver(), tls=_tls(), allow_http=settings.webhooks_allow_http)
    key, previous = settings.secrets_key, settings.secrets_previous_key
    box = SecretBox(key.get_secret_value(), previous.get_secret_value() if previous else None) if key else None
    service = WebhookService(database, deliveries, box, rules, sender, allow_http=settings.webhooks_allow_http)
    if box is None:
        return Webhooks(service, None)
    recipients = len(settings.staff_recipients)
    return Webhooks(service, Deliverer(database, deliveries, box, sender, recipients=recipients))
