"""The routes of deliveries."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from provider_registration.auth.dependencies import AdminDep
from provider_registration.deliveries.dependencies import DeliveryServiceDep
from provider_registration.deliveries.errors import (
    AlreadyDelivered,
    DeliveryInProgress,
    DeliveryNotFound,
    DeliveryTargetGone,
)
from provider_registration.deliveries.schemas import (
    EXAMPLE_DELIVERIES,
    DeliveryListResponse,
    DeliveryQuery,
)
from provider_registration.web.links import page_links
from provider_registration.web.openapi import link_header, links, refuses, success
from provider_registration.web.pagination import MAX_ID
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route

router = APIRouter(tags=["deliveries"], route_class=Route)

DELIVERIES = "/deliveries"
EXAMPLE_DELIVERY_ID = 913


@router.get(
    DELIVERIES,
    summary="List deliveries",
    responses=success(
        200,
        "Some deliveries, newest first",
        EXAMPLE_DELIVERIES,
        link_header(DELIVERIES),
        links=links("list_deliveries", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"))
async def list_deliveries(
    query: Annotated[DeliveryQuery, Query()],
    service: DeliveryServiceDep,
    _user: AdminDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> DeliveryListResponse:
    """List messages to applicants, staff and webhooks, with the state of each."""
    page = await service.page(limit=query.limit, before=query.cursor, kind=query.kind, state=query.state)
    listed = DeliveryListResponse.of(page)
    response.headers.update(page_links(request, DELIVERIES, query, listed.pagination.next_cursor))
    return listed


@router.post(
    "/deliveries/{delivery_id}/retry",
    summary="Send a message again",
    status_code=HTTPStatus.ACCEPTED,
    response_class=Response,
    responses={202: {"description": "Queued; a disabled webhook gets it once it is enabled"}},
)
@refuses(
    DeliveryNotFound(EXAMPLE_DELIVERY_ID),
    AlreadyDelivered(EXAMPLE_DELIVERY_ID),
    DeliveryInProgress(EXAMPLE_DELIVERY_ID),
    DeliveryTargetGone(EXAMPLE_DELIVERY_ID),
)
async def retry_delivery(
    delivery_id: Annotated[int, Path(ge=1, le=MAX_ID, description="The delivery's ID")],
    service: DeliveryServiceDep,
    user: AdminDep,
) -> Response:
    """Send an undelivered message again, now. One in the state `unknown` may arrive twice."""
    await service.retry(delivery_id, actor=user.actor)
    return Response(status_code=HTTPStatus.ACCEPTED)
