"""`POST /auth/login`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from provider_registration.auth.dependencies import AuthServiceDep
from provider_registration.auth.errors import InvalidCredentials
from provider_registration.auth.schemas import LoginForm, LoginRequest, TokenResponse
from provider_registration.auth.tokens import ACCESS_TOKEN_SECONDS
from provider_registration.database import DatabaseUnavailable
from provider_registration.web.body import MAX_BODY_BYTES, json_body, media_type_of, parse_form
from provider_registration.web.openapi import problems, request_body, success
from provider_registration.web.problems import (
    BodyTooLarge,
    FieldError,
    InvalidRequest,
    UnsupportedMediaType,
)

router = APIRouter(prefix="/auth", tags=["auth"])

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
LOGIN_EXAMPLE = {"username": "admin@example.com", "password": "correct horse battery staple"}
LOGGED_IN = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",
    "token_type": "bearer",
    "expires_in": ACCESS_TOKEN_SECONDS,
}

read_json = json_body(LoginRequest)


async def read_login(request: Request) -> LoginRequest:
    """The login request, from JSON or from an OAuth2 form."""
    media_type = media_type_of(request)
    if media_type == JSON:
        return await read_json(request)
    if media_type != FORM:
        raise UnsupportedMediaType(JSON, FORM)
    return parse_form(LoginForm, await request.body())


@router.post(
    "/login",
    summary="Log in",
    responses=success(200, "Logged in", LOGGED_IN)
    | problems(
        "/auth/login",
        InvalidCredentials(),
        BodyTooLarge(MAX_BODY_BYTES),
        UnsupportedMediaType(JSON, FORM),
        InvalidRequest([FieldError(location="body", field="password", detail="Field required")]),
        DatabaseUnavailable(),
    ),
    openapi_extra=request_body(
        (JSON, LoginRequest, {"An admin": LOGIN_EXAMPLE}),
        (FORM, LoginForm, {"An admin": {"grant_type": "password", **LOGIN_EXAMPLE}}),
    ),
)
async def login(
    credentials: Annotated[LoginRequest, Depends(read_login)], auth: AuthServiceDep, response: Response
) -> TokenResponse:
    """Exchange a user name and a password for an access token.

    Send JSON, or the form of the OAuth2 password grant, which is what the Authorize button here does.
    The token goes into `Authorization: Bearer …`. A wrong name, a wrong password and a disabled user look the same.
    """
    token = await auth.login(credentials.username, credentials.password)
    response.headers["Cache-Control"] = "no-store"  # RFC 6749 section 5.1
    return TokenResponse(access_token=token, expires_in=ACCESS_TOKEN_SECONDS)
