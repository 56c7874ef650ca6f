"""Errors of webhooks."""

from __future__ import annotations

from uuid import UUID

from provider_registration.errors import ConflictError, InvalidInputError, NotFoundError


class WebhooksOff(ConflictError):
    """There is no key with which the secrets of webhooks could be stored."""

    code = "webhooks-off"
    title = "Webhooks are off"

    def __str__(self) -> str:
        return "Webhooks are off: the operator has to set SECRETS_KEY."


class WebhookNotFound(NotFoundError):
    """No webhook has this ID."""

    code = "webhook-not-found"
    title = "Webhook not found"

    def __init__(self, webhook_id: UUID) -> None:
        self.webhook_id = webhook_id

    def __str__(self) -> str:
        return f"There is no webhook {self.webhook_id}."


class WebhookSecretUnreadable(ConflictError):
    """The webhook's secret was encrypted with a key that this process does not have."""

    code = "webhook-secret-unreadable"
    title = "Webhook secret unreadable"

    def __str__(self) -> str:
        return (
            "The webhook's secret cannot be decrypted: the operator has to check SECRETS_KEY and SECRETS_PREVIOUS_KEY. "
            "If the key is lost, replace the secret."
        )


class WebhookUrlRefused(InvalidInputError):
    """Webhooks are not sent to this URL."""

    code = "webhook-url-refused"
    title = "Webhook URL refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"The URL is refused: {self.reason}."


class TooManyWebhooks(ConflictError):
    """Each webhook has connections and tasks of its own, so their number is limited."""

    code = "too-many-webhooks"
    title = "Too many webhooks"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __str__(self) -> str:
        return f"There are already {self.limit} webhooks; delete one first."


class WebhookDisabled(ConflictError):
    """Nothing is sent to a disabled webhook."""

    code = "webhook-disabled"
    title = "Webhook disabled"

    def __init__(self, webhook_id: UUID) -> None:
        self.webhook_id = webhook_id

    def __str__(self) -> str:
        return f"Webhook {self.webhook_id} is disabled; enable it first."
