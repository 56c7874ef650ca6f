"""The words for events, in the console."""

from __future__ import annotations

from provider_registration.activity.models import Activity
from provider_registration.audit.models import ActorKind, AuditType
from provider_registration.bulk.models import APPROVE, REJECT
from provider_registration.events.models import EventType

EVENTS = {
    EventType.REGISTERED: "Registered",
    EventType.APPROVAL_REQUESTED: "Approval requested",
    EventType.APPROVAL_RETRIED: "Retry requested",
    EventType.APPROVAL_FAILED: "Approval failed",
    EventType.APPROVAL_IN_DOUBT: "Approval needs checking",
    EventType.APPROVAL_LINKED: "Linked manually to a provider in billing",
    EventType.APPROVAL_RELEASED: "Approval cancelled manually",
    EventType.APPROVED: "Approved",
    EventType.REJECTED: "Rejected",
    EventType.PROVIDER_ORPHANED: "Billing created a provider that is linked to no candidate",
    EventType.STATUS_LINK_REPLACED: "Status link replaced",
    EventType.ERASED: "Personal data erased",
}

AUDIT_EVENTS = {
    AuditType.SESSION_STARTED: "Signed in",
    AuditType.SESSION_ENDED: "Session ended",
    AuditType.SESSION_FAILED: "Sign-in failed",
    AuditType.USER_CREATED: "User created",
    AuditType.USER_PASSWORD_CHANGED: "Password changed",
    AuditType.USER_ROLE_CHANGED: "Role changed",
    AuditType.USER_DISABLED: "User disabled",
    AuditType.USER_ENABLED: "User enabled",
    AuditType.USER_ERASED: "Data of a user erased",
    AuditType.CANDIDATES_EXPORTED: "Candidates exported",
    AuditType.AUDIT_EXPORTED: "Activity exported",
    AuditType.DATA_EXPORTED: "Data of a person exported",
    AuditType.WEBHOOK_CREATED: "Webhook added",
    AuditType.WEBHOOK_CHANGED: "Webhook changed",
    AuditType.WEBHOOK_DISABLED: "Webhook disabled",
    AuditType.WEBHOOK_DELETED: "Webhook deleted",
    AuditType.WEBHOOK_SECRET_ROTATED: "Secret of a webhook replaced",
    AuditType.WEBHOOK_REPLAYED: "Events replayed to a webhook",
    AuditType.WEBHOOK_TESTED: "Webhook tested",
    AuditType.DELIVERY_RETRIED: "Message sent again",
    AuditType.API_KEY_CREATED: "API key created",
    AuditType.API_KEY_REVOKED: "API key revoked",
    AuditType.IMPORT_ADDED: "File of companies sent",
    AuditType.IMPORT_EXPORTED: "Invalid rows of an import exported",
    AuditType.IMPORT_DELETED: "Import deleted",
    AuditType.JOB_CREATED: "Job started",
    AuditType.JOB_CANCELLED: "Job stopped",
}
ACTORS = {ActorKind.APPLICANT: "Applicant", ActorKind.API_KEY: "API key", ActorKind.SERVICE: "Service or command"}
REASONS = {
    "signed_out": "signed out",
    "token_reused": "a refresh token was reused",
    "expired": "it had expired",
    "password_changed": "new password",
    "role_changed": "new role",
    "disabled": "user disabled",
    "erased": "user erased",
    "command": "all users signed out",
    "gone": "status 410",
    "failing": "only failures for 5 days",
    "actor_not_allowed": "its creator may no longer decide",
}
PHRASES = {"provider_id": "provider {}", "origin": "{}", "since": "since {}"}
NOUNS = {"items": "candidate", "sessions": "session"}  # of numbers


def actor_of(event: Activity) -> str:
    """Who did it."""
    if event.type is AuditType.SESSION_FAILED:
        return "Unknown"
    return event.actor.shown_name or ACTORS.get(event.actor.kind, "Unknown")


def details_of(event: Activity) -> str:
    """What the data of an event says, in a few words."""
    data = event.data
    words: list[object] = [PHRASES[name].format(data[name]) for name in PHRASES if name in data]
    if "role" in data:
        words.append(" → ".join(str(data[name]) for name in ("previous_role", "role") if name in data))
    if "kind" in data:
        words.append(
            {"browser": "console", "api": "API", "email": "e-mail", APPROVE: "approve", REJECT: "reject"}.get(
                data["kind"], data["kind"]
            )
        )
    if "reason" in data:
        words.append(REASONS.get(data["reason"], data["reason"]))
    words += [f"{data[name]} {noun}{'' if data[name] == 1 else 's'}" for name, noun in NOUNS.items() if name in data]
    if "format" in data:
        words.append(str(data["format"]).upper())
    if data.get("filters"):
        words.append(f"filtered by {', '.join(data['filters'])}")
    if "fields" in data:
        words.append(", ".join(data["fields"]))
    words += [str(data[name]) for name in ("status", "product", "error", "delivery_id") if name in data]
    if data.get("backfilled"):
        words.append("recorded later")
    text = "; ".join(map(str, words))
    return text[:1].upper() + text[1:]
