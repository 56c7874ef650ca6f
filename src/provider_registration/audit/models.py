"""Models of audit events, and who can cause an event of either log."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from sqlalchemy import RowMapping


class AuditType(StrEnum):
    """What is recorded in `audit_events`: a subject, and what happened to it."""

    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    SESSION_FAILED = "session.failed"
    USER_CREATED = "user.created"
    USER_PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - no password
    USER_ROLE_CHANGED = "user.role_changed"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_ERASED = "user.erased"
    CANDIDATES_EXPORTED = "candidates.exported"
    AUDIT_EXPORTED = "audit.exported"
    DATA_EXPORTED = "data.exported"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"  # noqa: S105 - no secret
    WEBHOOK_REPLAYED = "webhook.replayed"
    WEBHOOK_TESTED = "webhook.tested"
    DELIVERY_RETRIED = "delivery.retried"
    JOB_CREATED = "job.created"
    JOB_CANCELLED = "job.cancelled"
    API_KEY_CREATED = "api_key.created"
    API_KEY_REVOKED = "api_key.revoked"
    IMPORT_ADDED = "import.added"
    IMPORT_EXPORTED = "import.exported"
    IMPORT_DELETED = "import.deleted"


class ActorKind(StrEnum):
    """Who caused an event: a company, a member of staff, a program with a key, or the service and its commands."""

    APPLICANT = "applicant"
    USER = "user"
    API_KEY = "api_key"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused an event; `id` only of users and API keys, and `name`, if it was read: an e-mail address or a name."""

    kind: ActorKind
    id: UUID | None
    name: str | None = None

    @property
    def shown_name(self) -> str | None:
        """The name for people, which says so if it is that of a key."""
        return f"{self.name} (API key)" if self.name and self.kind is ActorKind.API_KEY else self.name

    @classmethod
    def user(cls, user_id: UUID) -> Actor:
        """A member of staff."""
        return cls(ActorKind.USER, user_id)

    @classmethod
    def from_row(cls, row: RowMapping) -> Actor:
        """The actor of a row that has `actor_kind`, `actor_id` and `actor_name`."""
        return cls(ActorKind(row["actor_kind"]), row["actor_id"], row["actor_name"])


SERVICE = Actor(ActorKind.SERVICE, None)


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about, such as a `user`; `name`: their e-mail address, or the name of a company or API key."""

    kind: str
    id: UUID
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An event to record. `data` has names, codes and IDs, and no personal data."""

    type: AuditType
    actor: Actor
    subject: Subject | None = None
    data: dict[str, object] = field(default_factory=dict)
