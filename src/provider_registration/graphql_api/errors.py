"""Errors of GraphQL documents."""

from __future__ import annotations

from provider_registration.errors import InvalidInputError, PermissionDeniedError, UnavailableError


class GraphQLLimitExceeded(InvalidInputError):
    """The document is larger than this service executes; nothing was read."""

    code = "graphql-limit-exceeded"
    title = "GraphQL limit exceeded"

    def __init__(self, what: str, limit: int) -> None:
        self.what = what
        self.limit = limit

    def __str__(self) -> str:
        return f"The document has more than {self.limit:,} {self.what}; request less at a time."


class GraphQLNotAllowed(PermissionDeniedError):
    """The document is not on the list of those that this service executes."""

    code = "graphql-not-allowed"
    title = "GraphQL document not allowed"

    def __str__(self) -> str:
        return "This service only executes documents whose SHA-256 hash is in GRAPHQL_ALLOWED."


class GraphQLTimeout(UnavailableError):
    """The response was not complete in time."""

    code = "graphql-timeout"
    title = "GraphQL timeout"
    retry_after = 1

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __str__(self) -> str:
        return f"The response was not complete after {self.seconds} s; request less at a time."
