"""Pages for webhooks: add, change, test, deliveries, replay, rotate, disable, delete."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import ValidationError
from starlette.responses import Response

from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import DecidingUserDep
from provider_registration.console.layout import WEBHOOK, WEBHOOKS, LayoutDep
from provider_registration.deliveries.errors import AlreadyDelivered, DeliveryInProgress
from provider_registration.deliveries.models import State
from provider_registration.events.models import EventType
from provider_registration.pages.forms import Form, FormDep
from provider_registration.web.pagination import MAX_ID
from provider_registration.webhooks.dependencies import WebhookServiceDep
from provider_registration.webhooks.errors import (
    TooManyWebhooks,
    WebhookDisabled,
    WebhookSecretUnreadable,
    WebhookUrlRefused,
)
from provider_registration.webhooks.models import Changes, Webhook
from provider_registration.webhooks.schemas import WebhookRequest
from provider_registration.webhooks.service import MAX_WEBHOOKS

router = APIRouter(include_in_schema=False)

DELIVERIES_SHOWN = 50
STATES = {
    State.PENDING: "Pending",
    State.DELIVERING: "Sending",
    State.DELIVERED: "Delivered",
    State.FAILED: "Refused",
    State.DEAD: "Given up",
    State.UNKNOWN: "Unknown",
}
MISTAKES = {
    "url": "Enter the URL of the receiver, for example https://erp.example/hooks",
    "types": "Select types from the list",
    "description": "Description must be 200 characters or fewer",
}

BeforeDelivery = Annotated[int | None, Query(ge=1, le=MAX_ID)]
DeliveryId = Annotated[int, Path(ge=1, le=MAX_ID)]


async def find_webhook(webhook_id: UUID, _signed_in: DecidingUserDep, service: WebhookServiceDep) -> Webhook:
    """The webhook in the path, for admins."""
    return await service.get(webhook_id)


WebhookDep = Annotated[Webhook, Depends(find_webhook)]


@dataclass(frozen=True, slots=True)
class ParsedWebhook:
    """The form of a webhook: the request, or (ID of the field, sentence) for each error."""

    request: WebhookRequest | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)


@router.get(WEBHOOKS)
async def list_webhooks(_signed_in: DecidingUserDep, service: WebhookServiceDep, layout: LayoutDep) -> Response:
    """List the webhooks, or say how to turn them on."""
    return layout.page("webhooks.html", webhooks=await service.list_all() if service.is_on else None)


@router.get(f"{WEBHOOKS}/new")
async def show_form(_signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask for the URL and the types."""
    return _form(layout, ParsedWebhook(), Form({}))


@router.post(f"{WEBHOOKS}/new")
async def add(signed_in: DecidingUserDep, form: FormDep, service: WebhookServiceDep, layout: LayoutDep) -> Response:
    """Add a webhook and show its secret once."""
    parsed = _parse(form)
    if parsed.request is None:
        return _form(layout, parsed, form)
    request = parsed.request
    try:
        new = await service.create(request.url, tuple(request.types), request.description, actor=signed_in.user.actor)
    except WebhookUrlRefused as error:
        return _form(layout, ParsedWebhook(errors=[("url", _sentence(error))]), form)
    except TooManyWebhooks as error:
        return layout.redirect(WEBHOOKS, Outcome("warning", str(error)))
    return layout.page("webhook_secret.html", webhook=new.webhook, secret=new.secret)


@router.get(WEBHOOK)
async def show_webhook(
    webhook: WebhookDep, service: WebhookServiceDep, layout: LayoutDep, before: BeforeDelivery = None
) -> Response:
    """Show a webhook and its deliveries: the latest, or `before` one."""
    page = await service.deliveries(webhook.webhook_id, limit=DELIVERIES_SHOWN, before=before)
    return layout.page("webhook.html", webhook=webhook, page=page, states=STATES)


@router.post(f"{WEBHOOK}/deliveries/{{delivery_id}}/retry")
async def retry(
    webhook: WebhookDep,
    signed_in: DecidingUserDep,
    delivery_id: DeliveryId,
    service: WebhookServiceDep,
    layout: LayoutDep,
) -> Response:
    """Send a delivery again now."""
    try:
        await service.retry(webhook.webhook_id, delivery_id, actor=signed_in.user.actor)
    except AlreadyDelivered:
        return layout.redirect(_path(webhook), Outcome("info", "It was delivered in the meantime."))
    except DeliveryInProgress:
        return layout.redirect(_path(webhook), Outcome("info", "It is being sent. Check again in a moment."))
    sentence = "It is being sent again." if webhook.enabled else "It will be sent once the webhook is enabled."
    return layout.redirect(_path(webhook), Outcome("success", sentence))


@router.get(f"{WEBHOOK}/edit")
async def show_edit_form(webhook: WebhookDep, layout: LayoutDep) -> Response:
    """Show the form with the current values."""
    typed = Form({"url": [webhook.url], "types": list(webhook.types), "description": [webhook.description]})
    return _form(layout, ParsedWebhook(), typed, webhook)


@router.post(f"{WEBHOOK}/edit")
async def edit(
    webhook: WebhookDep, signed_in: DecidingUserDep, form: FormDep, service: WebhookServiceDep, layout: LayoutDep
) -> Response:
    """Change the URL, the types and the description."""
    parsed = _parse(form)
    if parsed.request is None:
        return _form(layout, parsed, form, webhook)
    request = parsed.request
    changes = Changes(url=request.url, types=tuple(request.types), description=request.description)
    try:
        await service.change(webhook.webhook_id, changes, actor=signed_in.user.actor)
    except WebhookUrlRefused as error:
        return _form(layout, ParsedWebhook(errors=[("url", _sentence(error))]), form, webhook)
    return layout.redirect(_path(webhook), Outcome("success", "Webhook changed."))


@router.post(f"{WEBHOOK}/enable")
async def enable(
    webhook: WebhookDep, signed_in: DecidingUserDep, service: WebhookServiceDep, layout: LayoutDep
) -> Response:
    """Enable it."""
    await service.change(webhook.webhook_id, Changes(enabled=True), actor=signed_in.user.actor)
    return layout.redirect(_path(webhook), Outcome("success", "Webhook enabled. Replay sends what it missed."))


@router.post(f"{WEBHOOK}/disable")
async def disable(
    webhook: WebhookDep, signed_in: DecidingUserDep, service: WebhookServiceDep, layout: LayoutDep
) -> Response:
    """Disable it."""
    await service.change(webhook.webhook_id, Changes(enabled=False), actor=signed_in.user.actor)
    return layout.redirect(_path(webhook), Outcome("success", "Webhook disabled."))


@router.post(f"{WEBHOOK}/test")
async def send_test(
    webhook: WebhookDep, signed_in: DecidingUserDep, service: WebhookServiceDep, layout: LayoutDep
) -> Response:
    """Send a test message and show how the receiver responded."""
    try:
        result = await service.test(webhook.webhook_id, actor=signed_in.user.actor)
    except WebhookSecretUnreadable as error:
        return layout.redirect(_path(webhook), Outcome("danger", str(error)))
    if result.status is None:
        outcome = Outcome("danger", f"Test failed: {result.error}.")
    else:
        response = f"status {result.status}" + (f": {result.response}" if result.response else "")
        outcome = (
            Outcome("success", f"Test delivered; {response}")
            if result.delivered
            else Outcome("danger", f"Test failed; {response}")
        )
    return layout.redirect(_path(webhook), outcome)


@router.get(f"{WEBHOOK}/rotate")
async def confirm_rotation(webhook: WebhookDep, layout: LayoutDep) -> Response:
    """Ask for confirmation."""
    return layout.page("webhook_rotate.html", webhook=webhook)


@router.post(f"{WEBHOOK}/rotate")
async def rotate(
    webhook: WebhookDep, signed_in: DecidingUserDep, service: WebhookServiceDep, layout: LayoutDep
) -> Response:
    """Replace the secret and show the new one once."""
    new = await service.rotate_secret(webhook.webhook_id, actor=signed_in.user.actor)
    return layout.page("webhook_secret.html", webhook=new.webhook, secret=new.secret)


@router.get(f"{WEBHOOK}/replay")
async def show_replay_form(webhook: WebhookDep, layout: LayoutDep) -> Response:
    """Ask since when."""
    return layout.page("webhook_replay.html", webhook=webhook, error=None, typed="")


@router.post(f"{WEBHOOK}/replay")
async def replay(
    webhook: WebhookDep, signed_in: DecidingUserDep, form: FormDep, service: WebhookServiceDep, layout: LayoutDep
) -> Response:
    """Queue events once more."""
    typed = form.get("since")
    try:
        since = datetime.fromisoformat(typed).replace(tzinfo=UTC)
    except ValueError:
        error = "Enter a date and time"
        return layout.page("webhook_replay.html", status=422, webhook=webhook, error=error, typed=typed)
    try:
        await service.replay(webhook.webhook_id, since, actor=signed_in.user.actor)
    except WebhookDisabled:
        return layout.redirect(_path(webhook), Outcome("warning", "The webhook is disabled. Enable it first."))
    return layout.redirect(_path(webhook), Outcome("success", "The events are being queued once more."))


@router.get(f"{WEBHOOK}/delete")
async def confirm_deletion(webhook: WebhookDep, layout: LayoutDep) -> Response:
    """Ask for confirmation."""
    return layout.page("webhook_delete.html", webhook=webhook)


@router.post(f"{WEBHOOK}/delete")
async def delete(
    webhook: WebhookDep, signed_in: DecidingUserDep, service: WebhookServiceDep, layout: LayoutDep
) -> Response:
    """Delete it."""
    await service.delete(webhook.webhook_id, actor=signed_in.user.actor)
    return layout.redirect(WEBHOOKS, Outcome("success", "Webhook deleted."))


def _path(webhook: Webhook) -> str:
    return f"{WEBHOOKS}/{webhook.webhook_id}"


def _form(layout: LayoutDep, parsed: ParsedWebhook, typed: Form, webhook: Webhook | None = None) -> Response:
    return layout.page(
        "webhook_form.html",
        status=422 if parsed.errors else 200,
        webhook=webhook,
        errors=parsed.errors,
        typed=typed,
        types=list(EventType),
        limit=MAX_WEBHOOKS,
    )


def _parse(form: Form) -> ParsedWebhook:
    """Validate the form by the rules of the API."""
    values = {
        "url": form.get("url").strip(),
        "types": form.all("types"),
        "description": form.get("description"),
    }
    try:
        return ParsedWebhook(WebhookRequest.model_validate(values))
    except ValidationError as error:
        fields = dict.fromkeys(str(each["loc"][0]) for each in error.errors())
        return ParsedWebhook(errors=[(name, MISTAKES[name]) for name in fields])


def _sentence(error: WebhookUrlRefused) -> str:
    return f"This URL cannot be used: {error.reason}"
