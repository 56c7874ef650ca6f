"""Errors of the management of API keys."""

from __future__ import annotations

from uuid import UUID

from provider_registration.errors import InvalidInputError, NotFoundError


class ApiKeyNotFound(NotFoundError):
    """No API key has this ID."""

    code = "api-key-not-found"
    title = "API key not found"

    def __init__(self, api_key_id: UUID) -> None:
        self.api_key_id = api_key_id

    def __str__(self) -> str:
        return f"There is no API key {self.api_key_id}."


class ExpiryInThePast(InvalidInputError):
    """A key would never be valid."""

    code = "expiry-in-the-past"
    title = "Expiry in the past"

    def __str__(self) -> str:
        return "An API key must expire in the future, or never."
