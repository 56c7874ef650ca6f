"""Request bodies: size and time limits, and validation of JSON and forms."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_registration.web.openapi import refuses
from provider_registration.web.problems import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidRequest,
    UnsupportedMediaType,
    field_errors,
    problem_response,
    repeated,
)

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 15  # for a whole body to arrive
MAX_FORM_FIELDS = 100
MAX_LONE_PERCENT_SIGNS = 100  # from clients that do not encode; one costs three times as much as a byte
LONE_PERCENT_SIGN = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MAX_VALIDATION_ERRORS = 100  # beyond these, details are not read: 64 KiB can contain thousands

Body = TypeVar("Body", bound=BaseModel)


@dataclass(slots=True)
class Allowance:
    """What the body of one request may have: bytes, seconds until it is whole, and seconds between two parts."""

    max_bytes: int = MAX_BODY_BYTES
    seconds: float = BODY_SECONDS
    pause_seconds: float = BODY_SECONDS
    read: int = 0
    started: float = 0.0


# In the scope of a request: the allowance of its body, what lets its connection take a larger message, and whether the
# body has arrived.
ALLOWANCE, ENLARGE = "provider_registration.allowance", "provider_registration.enlarge"
HAS_ARRIVED = "provider_registration.has_arrived"


class BodyLimit:
    """Refuses bodies over MAX_BODY_BYTES, by Content-Length if present, otherwise while reading.

    Also refuses bodies that have not arrived after BODY_SECONDS, so that no client holds a request open forever.
    Starlette's own size limit responds in plain text.

    `most_of`: the most bytes that the routes at a path can allow with `allow_large_body`, once they know the caller;
    until then the usual limits apply to them too.
    """

    def __init__(self, app: ASGIApp, *, most_of: Callable[[Scope], int] = lambda _scope: MAX_BODY_BYTES) -> None:
        self._app = app
        self._most_of = most_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        framing = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
        if not framing:  # no body (RFC 9112 section 6.3)
            await self._app(scope, receive, send)
            return
        length = framing.get(b"content-length", b"0")
        most = self._most_of(scope)
        if not length.isdigit() or int(length[:20]) > most:
            response = problem_response(BodyTooLarge(most), Request(scope))
            await response(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        allowance = Allowance(seconds=BODY_SECONDS, pause_seconds=BODY_SECONDS, started=loop.time())
        is_whole = False
        has_arrived: Callable[[], bool] = scope.get(HAS_ARRIVED, lambda: False)  # our server's
        if most > MAX_BODY_BYTES:
            scope[ALLOWANCE] = allowance

        async def receive_limited() -> Message:
            nonlocal is_whole
            if is_whole:
                return await receive()  # waits until the client disconnects
            if has_arrived():  # usually with the head: no timer is needed
                message = await receive()
            else:
                deadline = min(allowance.started + allowance.seconds, loop.time() + allowance.pause_seconds)
                try:
                    async with asyncio.timeout_at(deadline):
                        message = await receive()
                except TimeoutError:
                    raise BodyTooSlow(round(allowance.seconds)) from None
            allowance.read += len(message.get("body", b""))
            if allowance.read > allowance.max_bytes:
                raise BodyTooLarge(allowance.max_bytes)
            is_whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_limited, send)


def allow_large_body(request: Request, max_bytes: int, seconds: float) -> None:
    """Let the body of this request be larger and take longer, but not pause longer; its caller is authenticated."""
    allowance: Allowance | None = request.scope.get(ALLOWANCE)
    if allowance is not None:  # else it has no body
        allowance.max_bytes, allowance.seconds = max_bytes, seconds
        if enlarge := request.scope.get(ENLARGE):  # our server's
            enlarge(max_bytes, seconds)


def media_type_of(request: Request) -> str:
    """The media type of the request's body, without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_body(model: type[Body], *, optional: bool = False) -> Callable[[Request], Awaitable[Body]]:
    """A dependency that validates the request body as `model`; an absent `optional` body counts as `{}`.

    FastAPI's own parsing accepts duplicate keys and builds Python objects first.

    Raises:
        UnsupportedMediaType: the Content-Type is not JSON.
        InvalidRequest: the body is not JSON, has duplicate keys, or is invalid for the model.
    """

    @refuses(BodyTooSlow(BODY_SECONDS), UnsupportedMediaType("application/json"))
    async def read(request: Request) -> Body:
        body = await request.body()
        if optional and not body:
            return model()
        media_type = media_type_of(request)
        if media_type != "application/json" and not (
            media_type.startswith("application/") and media_type.endswith("+json")
        ):
            raise UnsupportedMediaType("application/json")
        return parse_json(model, body)

    return read


def parse_json(model: type[Body], body: bytes) -> Body:
    """Validate JSON text against `model`.

    Raises:
        InvalidRequest: with the first errors, at most MAX_ERRORS.
    """
    try:
        value = model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid_body(error) from None
    if body.count(b":") > len(value.model_fields_set):  # each key needs a colon, so this means no key is duplicated
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    return value


def parse_form(model: type[Body], body: bytes) -> Body:
    """Validate a form (application/x-www-form-urlencoded) against `model`.

    Starlette's own parsing responds with 400, and the last of two equal names wins.

    Raises:
        InvalidRequest: with the first errors, at most MAX_ERRORS.
    """
    fields = form_fields(body)
    _refuse_duplicates(fields)
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise _invalid_body(error) from None


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """Names and values of a form; a percent sign without two hex digits is literal.

    `urllib.parse.parse_qsl` takes 54 ms for 64 KiB of percent signs; this takes at most 6 ms for any body.

    Raises:
        InvalidRequest: it is not UTF-8, or has more than MAX_FORM_FIELDS fields or MAX_LONE_PERCENT_SIGNS.
    """
    fields = None
    whole, lone = LONE_PERCENT_SIGN.subn(b"%25", body.replace(b"+", b" "))
    if whole.count(b"&") < MAX_FORM_FIELDS and lone <= MAX_LONE_PERCENT_SIGNS:
        parts = (field.partition(b"=") for field in whole.split(b"&") if field)
        with suppress(UnicodeDecodeError):
            fields = [(unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()) for name, _, value in parts]
    if fields is None:
        detail = f"Input should be a form in UTF-8 with at most {MAX_FORM_FIELDS} fields"
        raise InvalidRequest.at("body", None, detail)
    return fields


def _invalid_body(error: ValidationError) -> InvalidRequest:
    if error.error_count() > MAX_VALIDATION_ERRORS:
        return InvalidRequest.at("body", None, "Input has too many errors to list", code="too-many")
    return InvalidRequest(field_errors(error.errors(include_url=False, include_input=False), location="body"))


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if (name := repeated(key for key, _ in pairs)) is not None:  # RFC 8259 section 4: unpredictable
        raise InvalidRequest.at("body", name, "The field is given more than once", code="repeated")
