"""Renders errors as RFC 9457 problem documents; the only table from kinds of errors to HTTP status codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails
from starlette.responses import JSONResponse

from provider_registration.errors import (
    AuthenticationError,
    ConflictError,
    GoneError,
    InvalidHeaderError,
    InvalidInputError,
    InvalidStateError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    ServiceError,
    UnavailableError,
    UpstreamError,
)

PROBLEM_MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:problem-type:provider-registration:"
MAX_INSTANCE_LENGTH = 200
MAX_ERRORS = 20  # listed in one response
MAX_NAME_LENGTH = 100  # of a field; the caller chose that of an unknown one


class BodyTooLarge(ServiceError):
    """The request body is too long, or has too many parts."""

    code = "body-too-large"
    title = "Request body too large"

    def __init__(self, limit: int, parts: int | None = None) -> None:
        self.limit = limit
        self.parts = parts

    def __str__(self) -> str:
        if self.parts is not None:
            return f"The request body has more than {self.parts} chunks and trailers."
        return f"The request body is longer than {self.limit} bytes."


class BodyTooSlow(ServiceError):
    """The request body did not arrive in time."""

    code = "body-too-slow"
    title = "Request body too slow"

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __str__(self) -> str:
        return f"The request body did not arrive within {self.seconds} s."


class HeadTooLarge(ServiceError):
    """The request line and headers are too long."""

    code = "head-too-large"
    title = "Request head too large"

    def __init__(self, limit: int, headers: int) -> None:
        self.limit = limit
        self.headers = headers

    def __str__(self) -> str:
        return f"The request has more than {self.headers} headers, or its head is longer than {self.limit} bytes."


class HeadTooSlow(ServiceError):
    """The request line and headers did not arrive in time."""

    code = "head-too-slow"
    title = "Request head too slow"

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __str__(self) -> str:
        return f"The request line and headers did not arrive within {self.seconds} s."


class TargetTooLong(ServiceError):
    """The path and query are too long."""

    code = "target-too-long"
    title = "Request target too long"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __str__(self) -> str:
        return f"The path and query are longer than {self.limit} bytes."


class MalformedRequest(ServiceError):
    """The data received is not an HTTP request."""

    code = "malformed-request"
    title = "Malformed request"

    def __str__(self) -> str:
        return "This is not a valid HTTP/1.1 request."


class UnsupportedMediaType(ServiceError):
    """The route does not accept the body's media type."""

    code = "unsupported-media-type"
    title = "Unsupported media type"

    def __init__(self, *accepted: str) -> None:
        self.accepted = accepted

    def __str__(self) -> str:
        return f"Send the body with Content-Type {' or '.join(self.accepted)}."


STATUS_BY_KIND: dict[type[ServiceError], HTTPStatus] = {
    InvalidStateError: HTTPStatus.BAD_REQUEST,
    InvalidHeaderError: HTTPStatus.BAD_REQUEST,
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    AuthenticationError: HTTPStatus.UNAUTHORIZED,
    PermissionDeniedError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    HeadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    TargetTooLong: HTTPStatus.REQUEST_URI_TOO_LONG,
    ConflictError: HTTPStatus.CONFLICT,
    GoneError: HTTPStatus.GONE,
    PreconditionFailedError: HTTPStatus.PRECONDITION_FAILED,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidInputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    LimitExceededError: HTTPStatus.TOO_MANY_REQUESTS,
    UpstreamError: HTTPStatus.BAD_GATEWAY,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class FieldError(BaseModel):
    """One error in a request. It may name an unknown field, but never repeats a value."""

    code: str = Field(description="The kind of error; more kinds may be added", examples=["too-small"])
    location: str = Field(description="body, query, path or header", examples=["body"])
    field: str | None = Field(
        description="Field or parameter, with a dot before an item's index; null when it concerns the whole request",
        examples=["truck_count"],
    )
    detail: str = Field(description="What is wrong with it", examples=["Input should be greater than or equal to 1"])


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="Identifies the kind of problem; never changes", examples=[TYPE_PREFIX + "not-found"])
    title: str = Field(description="Short summary of the kind of problem")
    status: int = Field(description="The HTTP status code")
    detail: str = Field(description="What happened, in one sentence")
    instance: str = Field(description="The request path")
    errors: list[FieldError] | None = Field(
        None, description=f"Only with 422: what is wrong, at most {MAX_ERRORS} entries"
    )


class InvalidRequest(InvalidInputError):
    """A body, parameter or header is invalid; `errors` lists what is wrong."""

    code = "invalid-request"
    title = "Invalid request"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = errors

    @classmethod
    def at(cls, location: str, field: str | None, detail: str, *, code: str = "invalid") -> Self:
        """An error with a single entry."""
        return cls([FieldError(location=location, field=field and field[:MAX_NAME_LENGTH], code=code, detail=detail)])

    def __str__(self) -> str:
        return "The request is invalid; see errors."


MESSAGES: Mapping[str, str] = {
    "bool_parsing": "Input should be true or false",
    "extra_forbidden": "Unknown field or parameter",
    "float_parsing": "Input should be a number",
    "int_from_float": "Input should be an integer",
    "int_parsing": "Input should be an integer",
    "int_parsing_size": "Input is too large",
    "int_type": "Input should be an integer",
    "json_type": "Input should be JSON",
    "model_attributes_type": "Input should be an object",
    "model_type": "Input should be an object",
    "string_unicode": "Input should be valid Unicode",
    "too_long": "Input should have a length of at most {max_length}",
    "too_short": "Input should have a length of at least {min_length}",
    "uuid_parsing": "Input should be a UUID",
    "uuid_type": "Input should be a UUID",
    "value_error": "Input is not valid",
}
"""Replaces pydantic's messages that repeat the input or use the library's terms."""


_CODES: Mapping[str, str] = {
    code_of_type: code
    for code, types in {
        "combination": "at_most no_cursor no_words one_of other_order period reason two_paginations two_places",
        "not-allowed": "not_with_let_go",
        "repeated": "repeated repeated_items",
        "required": "missing missing_with_link",
        "too-large": "less_than less_than_equal int_parsing_size too_far",
        "too-long": "string_too_long too_long",
        "too-short": "string_too_short too_short",
        "too-small": "greater_than greater_than_equal",
        "unknown": "extra_forbidden",
        "unknown-value": "enum literal_error event_types",
        "wrong-type": "bool_parsing bool_type dict_type float_parsing float_type int_from_float int_parsing int_type "
        "json_invalid json_type list_type model_attributes_type model_type string_type",
    }.items()
    for code_of_type in types.split()
}
"""The code for each of pydantic's and our types of errors; `invalid` for others."""
ERROR_CODES = frozenset({*_CODES.values(), "invalid", "too-many"})


def field_errors(
    details: Sequence[ErrorDetails | Mapping[str, Any]], *, location: str | None = None
) -> list[FieldError]:
    """Translate pydantic's errors; pass `location` if their `loc` does not start with it."""
    errors = []
    for detail in details[:MAX_ERRORS]:
        loc = [str(part) for part in detail["loc"] if part != "[key]"]  # the name precedes it
        where = location or loc.pop(0)
        if detail["type"] == "json_invalid":
            loc = []  # a position in the text
        errors.append(
            FieldError(
                location=where,
                field=".".join(loc)[:MAX_NAME_LENGTH] or None,
                code=_CODES.get(detail["type"], "invalid"),
                detail=_message(detail),
            )
        )
    return errors


def repeated(names: Iterable[str]) -> str | None:
    """The first name that was there before, if any."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _message(detail: ErrorDetails | Mapping[str, Any]) -> str:
    message = MESSAGES.get(detail["type"])
    return message.format_map(detail.get("ctx", {})) if message else str(detail["msg"])


def status_of(error: ServiceError) -> HTTPStatus:
    """The HTTP status code of an error, by its kind."""
    return next(STATUS_BY_KIND[kind] for kind in type(error).__mro__ if kind in STATUS_BY_KIND)


def problem_of(error: ServiceError, instance: str) -> dict[str, Any]:
    """The problem document of an error."""
    problem: dict[str, Any] = {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": int(status_of(error)),
        "detail": str(error),
        "instance": instance,
    }
    if isinstance(error, InvalidRequest):
        problem["errors"] = [field_error.model_dump() for field_error in error.errors]
    return problem


def headers_of(error: ServiceError) -> dict[str, str]:
    """The headers that go with an error."""
    headers = {}
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, BodyTooSlow):
        headers["Connection"] = "close"  # RFC 9110 section 15.5.9: do not wait for the rest of the body
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.is_replay:
        headers["Idempotency-Replayed"] = "true"
    return headers


def problem_response(error: ServiceError, request: Request) -> JSONResponse:
    """The response for an error."""
    return JSONResponse(
        problem_of(error, instance_of(request)),
        status_code=status_of(error),
        headers=headers_of(error),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def instance_of(request: Request) -> str:
    """The path as in the request line, with the gateway's prefix."""
    path: str = request.scope["path"]
    prefix: str = request.scope.get("root_path", "")
    whole = path if path == prefix or path.startswith(f"{prefix}/") else prefix + path
    return quote(whole[:MAX_INSTANCE_LENGTH])
