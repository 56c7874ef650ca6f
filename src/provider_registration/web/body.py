"""Request bodies: how much is read and how long that may take, and JSON straight from its bytes into a schema."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
)

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 15  # that a whole body may take to arrive
MAX_FORM_FIELDS = 100
MAX_LONE_PERCENT_SIGNS = 100  # of a caller who encodes nothing; reading one takes three times as long as an octet
LONE_PERCENT_SIGN = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MAX_FAULTS = 100  # beyond these they are not even read: 64 KiB have room for thousands

Body = TypeVar("Body", bound=BaseModel)


class BodyLimit:
    """Refuse bodies over MAX_BODY_BYTES, before reading where the length is announced, while reading otherwise.

    Those that have not arrived after BODY_SECONDS are refused too: a caller could hold a request open for ever.
    Starlette's own limit of the size answers in plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        framing = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
        if not framing:  # then there is no body (RFC 9112 section 6.3)
            await self._app(scope, receive, send)
            return
        length = framing.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > MAX_BODY_BYTES:
            response = problem_response(BodyTooLarge(MAX_BODY_BYTES), Request(scope))
            await response(scope, receive, send)
            return
        read = 0
        is_whole = False
        deadline = asyncio.get_running_loop().time() + BODY_SECONDS

        async def receive_limited() -> Message:
            nonlocal read, is_whole
            if is_whole:
                return await receive()  # which waits until the caller leaves
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow(BODY_SECONDS) from None
            read += len(message.get("body", b""))
            if read > MAX_BODY_BYTES:
                raise BodyTooLarge(MAX_BODY_BYTES)
            is_whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_limited, send)


def media_type_of(request: Request) -> str:
    """The media type of the request's body, without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_body(model: type[Body], *, optional: bool = False) -> Callable[[Request], Awaitable[Body]]:
    """A dependency that reads the request's body as `model`; an absent `optional` body counts as `{}`.

    FastAPI's own reading lets duplicate keys pass and goes through Python objects on the way.

    Raises:
        UnsupportedMediaType: the body is not announced as JSON.
        InvalidRequest: it is not JSON, has a key twice, or breaks a rule of the model.
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
        InvalidRequest: with the first faults found, MAX_ERRORS at most.
    """
    try:
        value = model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid_body(error) from None
    if body.count(b":") > len(value.model_fields_set):  # each key needs one: with as many, none is there twice
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    return value


def parse_form(model: type[Body], body: bytes) -> Body:
    """Validate a form (application/x-www-form-urlencoded) against `model`.

    Starlette's own reading answers with 400 and lets the last of two equal names win.

    Raises:
        InvalidRequest: with the first faults found, MAX_ERRORS at most.
    """
    fields = form_fields(body)
    _refuse_duplicates(fields)
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise _invalid_body(error) from None


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """Names and values of a form; a percent sign that begins no octet stands for itself.

    `urllib.parse.parse_qsl` takes 54 ms for 64 KiB of percent signs; this takes 6 ms for whatever a body may hold.

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
    if error.error_count() > MAX_FAULTS:
        return InvalidRequest.at("body", None, "Input has too many errors to list")
    return InvalidRequest(field_errors(error.errors(include_url=False, include_input=False), location="body"))


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):  # RFC 8259 section 4: what a repeated name means is anyone's guess
        raise InvalidRequest.at("body", None, "A field is given more than once")
