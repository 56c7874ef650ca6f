"""Errors of authentication and user management."""

from __future__ import annotations

from provider_registration.errors import (
    AuthenticationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)


class InvalidCredentials(AuthenticationError):
    """Wrong e-mail address or password, or a disabled user; the response does not say which."""

    code = "invalid-credentials"
    title = "Invalid credentials"

    def __str__(self) -> str:
        return "The e-mail address or password is incorrect."


class LoginsBusy(UnavailableError):
    """Too many sign-ins are queued."""

    code = "logins-busy"
    title = "Too many sign-ins"
    retry_after = 1

    def __str__(self) -> str:
        return "Too many sign-in attempts at once. Try again in a moment."


class NotAuthenticated(AuthenticationError):
    """The access token or API key is missing, malformed, forged, expired or revoked, or its session has ended."""

    code = "not-authenticated"
    title = "Not authenticated"

    def __init__(
        self, needed: str = "A valid access token or API key is required; get a token from POST /auth/login."
    ) -> None:
        super().__init__()
        self.needed = needed

    def __str__(self) -> str:
        return self.needed


class InvalidRefreshToken(AuthenticationError):
    """The refresh token is unknown, already used or expired, or its session has ended."""

    code = "invalid-refresh-token"
    title = "Invalid refresh token"

    def __str__(self) -> str:
        return "The refresh token is invalid or has expired; sign in again."


class RoleNotAllowed(PermissionDeniedError):
    """The user's role does not permit this."""

    code = "role-not-allowed"
    title = "Role not allowed"

    def __init__(self, needed: str) -> None:
        self.needed = needed

    def __str__(self) -> str:
        return f"This requires the {self.needed} role."


class PersonRequired(PermissionDeniedError):
    """Only a signed-in user may do this, no program with an API key."""

    code = "person-required"
    title = "Person required"

    def __str__(self) -> str:
        return "API keys cannot do this; sign in as a user."


class UserExists(ConflictError):
    """Another user has this e-mail address."""

    code = "user-exists"
    title = "User exists"

    def __str__(self) -> str:
        return "A user with this e-mail address already exists."


class UserNotFound(NotFoundError):
    """No user has this e-mail address."""

    code = "user-not-found"
    title = "User not found"

    def __str__(self) -> str:
        return "No user has this e-mail address."


class UnacceptablePassword(ValueError):
    """The password is not allowed; the message says why."""
