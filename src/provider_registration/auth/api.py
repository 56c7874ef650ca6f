"""The routes for sign-in, refresh and sign-out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, status

from provider_registration.auth.dependencies import AuthServiceDep, PersonDep
from provider_registration.auth.errors import InvalidCredentials, InvalidRefreshToken, LoginsBusy
from provider_registration.auth.schemas import LoginForm, LoginRequest, RefreshRequest, TokenResponse
from provider_registration.auth.service import Tokens
from provider_registration.auth.tokens import ACCESS_TOKEN_SECONDS
from provider_registration.web.body import BODY_SECONDS, json_body, media_type_of, parse_form
from provider_registration.web.disconnects import client_check
from provider_registration.web.openapi import links, refuses, request_body, success
from provider_registration.web.problems import (
    BodyTooSlow,
    InvalidRequest,
    UnsupportedMediaType,
)
from provider_registration.web.rate_limit_middleware import network_of_client
from provider_registration.web.rate_limits import RateLimitsUnavailable
from provider_registration.web.routing import Route

router = APIRouter(prefix="/auth", tags=["auth"], route_class=Route)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
EXAMPLE_TOKENS = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",
    "token_type": "bearer",
    "expires_in": ACCESS_TOKEN_SECONDS,
    "refresh_token": "Zt1mC0r3pQ9vYx7wA5sD2fG4hJ6kL8nB0iU1oE3tR5y",
}
LOGIN_EXAMPLE = {"username": "admin@example.com", "password": "correct horse battery staple"}

read_json = json_body(LoginRequest)
RefreshBody = Annotated[RefreshRequest, Depends(json_body(RefreshRequest))]


@refuses(BodyTooSlow(BODY_SECONDS), UnsupportedMediaType(JSON, FORM))
async def read_login(request: Request) -> LoginRequest:
    """Read the sign-in request from JSON or from an OAuth2 form."""
    media_type = media_type_of(request)
    if media_type == JSON:
        return await read_json(request)
    if media_type != FORM:
        raise UnsupportedMediaType(JSON, FORM)
    return parse_form(LoginForm, await request.body())


@router.post(
    "/login",
    summary="Sign in",
    responses=success(200, "Signed in", EXAMPLE_TOKENS, links=links("refresh")),
    # Without the form: openapi-python-client fails where a body has two media types.
    openapi_extra=request_body((JSON, LoginRequest, {"An admin": LOGIN_EXAMPLE})),
)
@refuses(
    InvalidCredentials(),
    InvalidRequest.at("body", "password", "Field required", code="required"),
    LoginsBusy(),
    RateLimitsUnavailable(),
)
async def login(
    credentials: Annotated[LoginRequest, Depends(read_login)], auth: AuthServiceDep, request: Request
) -> TokenResponse:
    """Exchange an e-mail address and a password for an access token and a refresh token.

    Send JSON, or the form (`application/x-www-form-urlencoded`) of the OAuth2 password grant, as the Authorize button
    here does.
    Send the token in `Authorization: Bearer …`. Unknown and disabled users and wrong passwords get the same error.
    """
    tokens = await auth.login(
        credentials.username,
        credentials.password,
        address=network_of_client(request),
        check_client=client_check(request),
    )
    return _response(tokens)


@router.post(
    "/refresh",
    summary="Refresh the tokens",
    responses=success(200, "New tokens", EXAMPLE_TOKENS, links=links("refresh")),
    openapi_extra=request_body(
        (JSON, RefreshRequest, {"A refresh": {"refresh_token": EXAMPLE_TOKENS["refresh_token"]}})
    ),
)
@refuses(InvalidRefreshToken(), InvalidRequest.at("body", "refresh_token", "Field required", code="required"))
async def refresh(body: RefreshBody, auth: AuthServiceDep) -> TokenResponse:
    """Exchange a refresh token for a new access token and a new refresh token.

    A refresh token can be used once, within 12 hours; reuse ends the session, because it may mean theft. For 10 s, and
    only until the new refresh token is used, repeating the request is allowed and returns the same refresh token: the
    first response may have been lost. A session lasts at most 7 days.
    """
    return _response(await auth.refresh(body.refresh_token))


@router.post(
    "/logout",
    summary="Sign out",
    status_code=status.HTTP_204_NO_CONTENT,
    response_description="Signed out",
)
async def logout(user: PersonDep, auth: AuthServiceDep) -> None:
    """End the session: its access token and refresh token become invalid everywhere within a second."""
    await auth.logout(user)


def _response(tokens: Tokens) -> TokenResponse:
    return TokenResponse(
        access_token=tokens.access_token, expires_in=ACCESS_TOKEN_SECONDS, refresh_token=tokens.refresh_token
    )
