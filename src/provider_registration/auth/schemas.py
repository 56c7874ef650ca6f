"""Requests and responses of the sign-in endpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from provider_registration.web.text import OpaqueText, Password, Text


class LoginRequest(BaseModel):
    """A user's e-mail address and password."""

    model_config = ConfigDict(extra="forbid", strict=True)

    username: Annotated[str, Text(255, min_length=1)] = Field(description="The user's e-mail address")
    password: Password


class LoginForm(LoginRequest):
    """The form of RFC 6749 section 4.3.2, which Swagger UI's Authorize button sends."""

    model_config = ConfigDict(extra="ignore")  # RFC 6749 section 3.2: unrecognised parameters are ignored

    grant_type: Literal["password", ""] | None = None


class RefreshRequest(BaseModel):
    """A refresh token."""

    model_config = ConfigDict(extra="forbid", strict=True)

    refresh_token: OpaqueText = Field(min_length=1, description="From the last sign-in or refresh")


class TokenResponse(BaseModel):
    """An access token, for `Authorization: Bearer …` (RFC 6750), and a refresh token for `/auth/refresh`."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    access_token: str = Field(description="A JWT", examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…"])
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a scheme's name
    expires_in: int = Field(description="Lifetime of the access token in seconds", examples=[1800])
    refresh_token: str = Field(description="Can be used once", examples=["Zt1mC0r3pQ9vYx7wA5sD2fG4hJ6kL8nB0iU1oE3tR5y"])
