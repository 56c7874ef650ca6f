"""Models of webhooks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.webhooks.urls import WebhookUrl


class DisabledReason(StrEnum):
    """Why nothing is sent to a webhook."""

    STAFF = "staff"  # an admin disabled it
    GONE = "gone"  # it responded with 410
    FAILING = "failing"  # nothing but failures for days


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where events are sent. `types`: only these; all if empty.

    `given_up_at`: when the service disabled it, not staff. `failing_since`: since then, every attempt has failed.
    `previous_secret_expires_at`: until then, messages are also signed with the secret before the last rotation.
    `replay_since`: events since then are still being queued again.
    """

    webhook_id: UUID
    url: str
    types: tuple[str, ...]
    description: str
    disabled_reason: DisabledReason | None
    given_up_at: datetime | None
    failing_since: datetime | None
    previous_secret_expires_at: datetime | None
    replay_since: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make a webhook from a row with the columns of WEBHOOK."""
        reason = row["disabled_reason"]
        return cls(
            webhook_id=row["id"],
            url=row["url"],
            types=tuple(row["types"]),
            description=row["description"],
            disabled_reason=DisabledReason(reason) if reason else None,
            given_up_at=row["given_up_at"],
            failing_since=row["failing_since"],
            previous_secret_expires_at=row["previous_secret_expires_at"],
            replay_since=row["replay_since"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )

    @property
    def enabled(self) -> bool:
        """Whether events are sent."""
        return self.disabled_reason is None

    @property
    def host(self) -> str:
        """The host of the URL, whose path may be secret."""
        return WebhookUrl.stored(self.url).authority


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A webhook with its new secret, which is shown only now."""

    webhook: Webhook
    secret: str


@dataclass(frozen=True, slots=True)
class Destination:
    """What one attempt needs: the URL, the secrets to sign with, and whether the last attempts failed."""

    webhook_id: UUID
    url: WebhookUrl
    secrets: tuple[bytes, ...]
    is_failing: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of a webhook; None leaves a field as it is."""

    url: str | None = None
    types: tuple[str, ...] | None = None
    description: str | None = None
    enabled: bool | None = None

    def of(self, webhook: Webhook) -> list[str]:
        """The names of the fields that they change. Enabling a webhook that fails forgets its failures."""
        forgets = self.enabled and webhook.failing_since is not None
        return [
            name
            for name, value in asdict(self).items()
            if value is not None and (value != getattr(webhook, name) or (name == "enabled" and forgets))
        ]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How a receiver responded to a test message."""

    delivered: bool
    status: int | None
    response: str
    error: str | None
    duration_ms: int
