"""The routes of API keys. People manage them: a leaked key must not create others, or revoke them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status

from provider_registration.api_keys.dependencies import ApiKeyBody, ApiKeyId, ApiKeyServiceDep
from provider_registration.api_keys.errors import ApiKeyNotFound, ExpiryInThePast
from provider_registration.api_keys.schemas import (
    EXAMPLE_API_KEY,
    EXAMPLE_KEY,
    ApiKeyListResponse,
    ApiKeyRequest,
    ApiKeyResponse,
    NewApiKeyResponse,
)
from provider_registration.auth.dependencies import AdminDep, AdminInPersonDep
from provider_registration.web.links import page_links
from provider_registration.web.openapi import EXAMPLE_ID, header, link_header, links, refuses, request_body, success
from provider_registration.web.pagination import Page, Pagination, PositionQuery
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, json_response

router = APIRouter(tags=["API keys"], route_class=Route)

API_KEYS = "/api-keys"
API_KEY = f"{API_KEYS}/{{api_key_id}}"


@router.post(
    API_KEYS,
    summary="Create an API key",
    status_code=status.HTTP_201_CREATED,
    response_model=NewApiKeyResponse,
    responses=success(
        201,
        "Created; the key is returned only here",
        {**EXAMPLE_API_KEY, "key": EXAMPLE_KEY},
        headers=header("Location", "The path of the API key"),
        links=links("get_api_key", "revoke_api_key", parameters={"api_key_id": "$response.body#/api_key_id"}),
    ),
    openapi_extra=request_body(
        (
            "application/json",
            ApiKeyRequest,
            {
                "For a year": {"name": "ERP import", "role": "auditor", "expires_at": "2027-03-14T00:00:00Z"},
                "Until it is revoked": {"name": "Dashboard", "role": "viewer"},
            },
        )
    ),
)
@refuses(ExpiryInThePast(), InvalidRequest.at("body", "name", "Field required", code="required"))
async def create_api_key(
    request: Request, user: AdminInPersonDep, body: ApiKeyBody, service: ApiKeyServiceDep
) -> Response:
    """Create a key with which a program uses the API, in `Authorization: Bearer …`. Only users may."""
    created = await service.create(body.name, body.role, body.expires_at, actor=user.actor)
    location = f"{request.scope.get('root_path', '')}{API_KEYS}/{created.api_key.api_key_id}"
    content = NewApiKeyResponse.of(created).model_dump_json()
    return json_response(content, status.HTTP_201_CREATED, {"Location": location})


@router.get(
    API_KEYS,
    summary="List the API keys",
    responses=success(
        200,
        "One page, newest first",
        {
            "api_keys": [EXAMPLE_API_KEY],
            "pagination": Pagination.of(Page(limit=20), 1, None).model_dump(),
        },
        link_header(API_KEYS),
        links("get_api_key", "revoke_api_key", parameters={"api_key_id": "$response.body#/api_keys/0/api_key_id"})
        | links("list_api_keys", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(InvalidRequest.at("query", "limit", "Input should be less than or equal to 100", code="too-large"))
async def list_api_keys(
    query: Annotated[PositionQuery, Query()],
    service: ApiKeyServiceDep,
    _user: AdminDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> ApiKeyListResponse:
    """List the keys, without the keys themselves. Expired and revoked ones stay, since history names them."""
    page = query.to_page()
    found = await service.page(page)
    next_cursor = found.next.to_cursor() if found.next else None
    response.headers.update(page_links(request, API_KEYS, query, next_cursor))
    return ApiKeyListResponse(
        api_keys=[ApiKeyResponse.model_validate(each) for each in found.api_keys],
        pagination=Pagination.of(page, found.total, next_cursor),
    )


@router.get(API_KEY, summary="Read an API key", responses=success(200, "The API key", EXAMPLE_API_KEY))
@refuses(ApiKeyNotFound(EXAMPLE_ID))
async def get_api_key(api_key_id: ApiKeyId, service: ApiKeyServiceDep, _user: AdminDep) -> ApiKeyResponse:
    """Read one key, without the key itself."""
    return ApiKeyResponse.model_validate(await service.get(api_key_id))


@router.delete(
    API_KEY, summary="Revoke an API key", status_code=status.HTTP_204_NO_CONTENT, response_description="Revoked"
)
@refuses(ApiKeyNotFound(EXAMPLE_ID))
async def revoke_api_key(api_key_id: ApiKeyId, service: ApiKeyServiceDep, user: AdminInPersonDep) -> None:
    """Revoke a key: it stops working within a second, and stays in the list. Only users may."""
    await service.revoke(api_key_id, actor=user.actor)
