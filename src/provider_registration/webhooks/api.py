"""The routes of webhooks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response, status

from provider_registration.auth.dependencies import AdminDep
from provider_registration.deliveries.api import EXAMPLE_DELIVERY_ID
from provider_registration.deliveries.errors import (
    AlreadyDelivered,
    DeliveryInProgress,
    DeliveryNotFound,
    DeliveryTargetGone,
)
from provider_registration.deliveries.schemas import DeliveryListResponse
from provider_registration.web.links import page_links
from provider_registration.web.openapi import (
    EXAMPLE_ID,
    header,
    link_header,
    links,
    refuses,
    request_body,
    success,
)
from provider_registration.web.pagination import MAX_ID
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, json_response
from provider_registration.webhooks.dependencies import (
    ReplayBody,
    WebhookBody,
    WebhookChangeBody,
    WebhookId,
    WebhookServiceDep,
)
from provider_registration.webhooks.errors import (
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
    WebhookSecretUnreadable,
    WebhookUrlRefused,
)
from provider_registration.webhooks.models import Changes
from provider_registration.webhooks.schemas import (
    EXAMPLE_DELIVERY,
    EXAMPLE_RESULT,
    EXAMPLE_SECRET,
    EXAMPLE_WEBHOOK,
    ReplayRequest,
    WebhookChangeRequest,
    WebhookDeliveryQuery,
    WebhookListResponse,
    WebhookRequest,
    WebhookResponse,
    WebhookSecretResponse,
    WebhookTestResponse,
)
from provider_registration.webhooks.service import MAX_WEBHOOKS

router = APIRouter(tags=["webhooks"], route_class=Route)

WEBHOOKS = "/webhooks"
WEBHOOK = f"{WEBHOOKS}/{{webhook_id}}"
WEBHOOK_DELIVERIES = f"{WEBHOOK}/deliveries"
THIS_WEBHOOK = {"webhook_id": "$response.body#/webhook_id"}
REFUSED_URL = WebhookUrlRefused("its IP address is not public, and WEBHOOKS_ALLOWED_NETWORKS does not include it")


@router.post(
    WEBHOOKS,
    summary="Add a webhook",
    status_code=status.HTTP_201_CREATED,
    response_model=WebhookSecretResponse,
    responses=success(
        201,
        "Added; the secret is returned only here",
        {**EXAMPLE_WEBHOOK, "secret": EXAMPLE_SECRET},
        headers=header("Location", "The path of the webhook"),
        links=links("get_webhook", "send_test_message", parameters=THIS_WEBHOOK),
    ),
    openapi_extra=request_body(
        (
            "application/json",
            WebhookRequest,
            {
                "Decisions only": {
                    "url": "https://erp.example/hooks/suppliers",
                    "types": ["candidate.approved", "candidate.rejected"],
                    "description": "ERP",
                },
                "All events": {"url": "https://erp.example/hooks/suppliers"},
            },
        )
    ),
)
@refuses(
    TooManyWebhooks(MAX_WEBHOOKS), REFUSED_URL, InvalidRequest.at("body", "url", "Field required", code="required")
)
async def create_webhook(request: Request, user: AdminDep, body: WebhookBody, service: WebhookServiceDep) -> Response:
    """Add a URL to which events are sent from now on, signed as Standard Webhooks 1.0.0 specifies."""
    new = await service.create(body.url, tuple(body.types), body.description, actor=user.actor)
    location = f"{request.scope.get('root_path', '')}{WEBHOOKS}/{new.webhook.webhook_id}"
    content = WebhookSecretResponse.of(new).model_dump_json()
    return json_response(content, status.HTTP_201_CREATED, {"Location": location})


@router.get(
    WEBHOOKS,
    summary="List the webhooks",
    responses=success(200, "All webhooks, oldest first", {"webhooks": [EXAMPLE_WEBHOOK]}),
)
async def list_webhooks(service: WebhookServiceDep, _user: AdminDep) -> WebhookListResponse:
    """List all webhooks, at most 100, without their secrets."""
    return WebhookListResponse(webhooks=[WebhookResponse.model_validate(each) for each in await service.list_all()])


@router.get(WEBHOOK, summary="Read a webhook", responses=success(200, "The webhook", EXAMPLE_WEBHOOK))
@refuses(WebhookNotFound(EXAMPLE_ID))
async def get_webhook(webhook_id: WebhookId, service: WebhookServiceDep, _user: AdminDep) -> WebhookResponse:
    """Read one webhook, without its secret."""
    return WebhookResponse.model_validate(await service.get(webhook_id))


@router.patch(
    WEBHOOK,
    summary="Change a webhook",
    responses=success(200, "Changed", {**EXAMPLE_WEBHOOK, "enabled": False, "disabled_reason": "staff"}),
    openapi_extra=request_body(
        (
            "application/json",
            WebhookChangeRequest,
            {"Disable": {"enabled": False}, "Enable": {"enabled": True}, "All events": {"types": []}},
        )
    ),
)
@refuses(
    WebhookNotFound(EXAMPLE_ID),
    REFUSED_URL,
    InvalidRequest.at("body", "enabled", "Input should be true or false", code="wrong-type"),
)
async def change_webhook(
    webhook_id: WebhookId, user: AdminDep, body: WebhookChangeBody, service: WebhookServiceDep
) -> WebhookResponse:
    """Change the URL, the types or the description, or disable or enable it.

    While it is disabled, nothing is sent and no new events are queued; pending deliveries continue once it is enabled.
    """
    changes = Changes(
        url=body.url,
        types=tuple(body.types) if body.types is not None else None,
        description=body.description,
        enabled=body.enabled,
    )
    return WebhookResponse.model_validate(await service.change(webhook_id, changes, actor=user.actor))


@router.delete(
    WEBHOOK, summary="Delete a webhook", status_code=status.HTTP_204_NO_CONTENT, response_description="Deleted"
)
@refuses(WebhookNotFound(EXAMPLE_ID))
async def delete_webhook(webhook_id: WebhookId, service: WebhookServiceDep, user: AdminDep) -> None:
    """Delete a webhook and its secret; what is pending is not sent."""
    await service.delete(webhook_id, actor=user.actor)


@router.post(
    f"{WEBHOOK}/rotate-secret",
    summary="Replace the secret of a webhook",
    responses=success(
        200,
        "Replaced; the new secret is returned only here",
        {**EXAMPLE_WEBHOOK, "previous_secret_expires_at": "2026-03-15T09:26:53.589793Z", "secret": EXAMPLE_SECRET},
    ),
)
@refuses(WebhookNotFound(EXAMPLE_ID))
async def rotate_webhook_secret(
    webhook_id: WebhookId, service: WebhookServiceDep, user: AdminDep
) -> WebhookSecretResponse:
    """Replace the secret. For 24 hours, messages are also signed with the old one."""
    return WebhookSecretResponse.of(await service.rotate_secret(webhook_id, actor=user.actor))


@router.post(
    f"{WEBHOOK}/test",
    summary="Send a test message",
    responses=success(200, "Sent once; how the receiver responded", EXAMPLE_RESULT),
)
@refuses(WebhookNotFound(EXAMPLE_ID), WebhookSecretUnreadable())
async def send_test_message(webhook_id: WebhookId, service: WebhookServiceDep, user: AdminDep) -> WebhookTestResponse:
    """Send a signed message of the type `webhook.test`, once, and return how the receiver responded within 15 s."""
    return WebhookTestResponse.model_validate(await service.test(webhook_id, actor=user.actor))


@router.get(
    WEBHOOK_DELIVERIES,
    summary="List the deliveries of a webhook",
    responses=success(
        200,
        "Some deliveries, newest first",
        {"deliveries": [EXAMPLE_DELIVERY], "pagination": {"next_cursor": None}},
        link_header(WEBHOOK_DELIVERIES.format(webhook_id=EXAMPLE_ID)),
        links=links("list_webhook_deliveries", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(
    WebhookNotFound(EXAMPLE_ID),
    InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"),
)
async def list_webhook_deliveries(
    webhook_id: WebhookId,
    query: Annotated[WebhookDeliveryQuery, Query()],
    service: WebhookServiceDep,
    _user: AdminDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> DeliveryListResponse:
    """List the events sent or to be sent to a webhook, with their attempts and the last response."""
    page = await service.deliveries(webhook_id, limit=query.limit, before=query.cursor, state=query.state)
    listed = DeliveryListResponse.of(page)
    path = WEBHOOK_DELIVERIES.format(webhook_id=webhook_id)
    response.headers.update(page_links(request, path, query, listed.pagination.next_cursor))
    return listed


@router.post(
    f"{WEBHOOK}/deliveries/{{delivery_id}}/retry",
    summary="Send an event again",
    status_code=status.HTTP_202_ACCEPTED,
    response_class=Response,
    responses={202: {"description": "Queued; a disabled webhook gets it once it is enabled"}},
)
@refuses(
    WebhookNotFound(EXAMPLE_ID),
    DeliveryNotFound(EXAMPLE_DELIVERY_ID),
    AlreadyDelivered(EXAMPLE_DELIVERY_ID),
    DeliveryInProgress(EXAMPLE_DELIVERY_ID),
    DeliveryTargetGone(EXAMPLE_DELIVERY_ID),
)
async def retry_webhook_delivery(
    webhook_id: WebhookId,
    delivery_id: Annotated[int, Path(ge=1, le=MAX_ID, description="The delivery's ID")],
    service: WebhookServiceDep,
    user: AdminDep,
) -> Response:
    """Send an undelivered event again, now and with all its attempts."""
    await service.retry(webhook_id, delivery_id, actor=user.actor)
    return Response(status_code=status.HTTP_202_ACCEPTED)


@router.post(
    f"{WEBHOOK}/replay",
    summary="Send past events once more",
    status_code=status.HTTP_202_ACCEPTED,
    responses=success(202, "The events are being queued", {**EXAMPLE_WEBHOOK, "replay_since": "2026-03-14T00:00:00Z"}),
    openapi_extra=request_body(("application/json", ReplayRequest, {"From a date": {"since": "2026-03-14T00:00:00Z"}})),
)
@refuses(
    WebhookNotFound(EXAMPLE_ID),
    WebhookDisabled(EXAMPLE_ID),
    InvalidRequest.at("body", "since", "Input should have timezone info"),
)
async def replay_webhook(
    webhook_id: WebhookId, user: AdminDep, body: ReplayBody, service: WebhookServiceDep
) -> WebhookResponse:
    """Queue all events of its types since a time once more, with the same IDs, whether they were delivered or not."""
    return WebhookResponse.model_validate(await service.replay(webhook_id, body.since, actor=user.actor))
