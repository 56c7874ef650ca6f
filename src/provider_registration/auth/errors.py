"""How authentication and the keeping of users can fail."""

from __future__ import annotations

from provider_registration.errors import (
    AuthenticationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)


class InvalidCredentials(AuthenticationError):
    """Wrong user name or password, or a disabled user: which of them is not said."""

    code = "invalid-credentials"
    title = "Invalid credentials"

    def __str__(self) -> str:
        return "E-mail or password is incorrect."


class LoginsBusy(UnavailableError):
    """More passwords wait to be checked than can be checked in time."""

    code = "logins-busy"
    title = "Log-ins busy"
    retry_after = 1

    def __str__(self) -> str:
        return "Too many users are signing in. Try again in a moment."


class NotAuthenticated(AuthenticationError):
    """No access token, or one that is malformed, forged, expired or of a user who was disabled."""

    code = "not-authenticated"
    title = "Not authenticated"

    def __init__(self, needed: str = "A valid access token is required; get one from POST /auth/login.") -> None:
        super().__init__()
        self.needed = needed

    def __str__(self) -> str:
        return self.needed


class InvalidRefreshToken(AuthenticationError):
    """The refresh token is unknown, used before, expired, or its session has ended: log in again."""

    code = "invalid-refresh-token"
    title = "Invalid refresh token"

    def __str__(self) -> str:
        return "The refresh token is invalid or has expired; log in again."


class RoleNotAllowed(PermissionDeniedError):
    """The user's role may not do this."""

    code = "role-not-allowed"
    title = "Role not allowed"

    def __init__(self, needed: str) -> None:
        self.needed = needed

    def __str__(self) -> str:
        return f"This requires the role {self.needed}."


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
    """A password that may not be set; the message says why."""
