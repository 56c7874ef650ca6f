"""Dependencies that read `Idempotency-Key`, and the scope of a request of staff."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from provider_registration.auth.models import Caller
from provider_registration.idempotency.errors import (
    MAX_LENGTH,
    MIN_LENGTH,
    KeyInUse,
    KeyInvalid,
    KeyMissing,
    KeyReused,
)
from provider_registration.idempotency.models import LIFETIME_HOURS, Key
from provider_registration.web.openapi import header, refuses
from provider_registration.web.paths import route_path

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
REPLAYED_HEADER = {
    REPLAYED: header(REPLAYED, "`true` if this repeats the response to an earlier request with the same key", "true")[
        REPLAYED
    ]
    | {"required": False}
}
BARE = re.compile(rf'(?!")[!-~]{{{MIN_LENGTH},{MAX_LENGTH}}}')
# A string of RFC 8941, as draft-ietf-httpapi-idempotency-key-header-07 has it; the length counts without escapes.
QUOTED = re.compile(rf'"((?:[!#-\[\]-~]|\\["\\]){{{MIN_LENGTH},{MAX_LENGTH}}})"')
ESCAPE = re.compile(r'\\(["\\])')
EXAMPLE = "0f8e6b1c-54d3-4a5e-9d0a-7c1b2e3f4a5b"
FORMAT = (
    f"{MIN_LENGTH} to {MAX_LENGTH} visible ASCII characters, new and random for each operation. A repeated request "
    f"with the same key has no second effect and gets the same response, for {LIFETIME_HOURS} hours."
)


def parse_key(lines: list[str]) -> str | None:
    """The key in the lines of the header; None without a line.

    Raises:
        KeyInvalid: it is malformed, or there are several.
    """
    match lines:
        case []:
            return None
        case [line] if BARE.fullmatch(line):
            return line
        case [line] if quoted := QUOTED.fullmatch(line):
            return ESCAPE.sub(r"\1", quoted[1])
        case _:
            raise KeyInvalid


@refuses(KeyInvalid(), KeyReused(), KeyInUse())
async def idempotency_key(
    request: Request,
    _header: Annotated[str | None, Header(alias=HEADER, description=FORMAT, examples=[EXAMPLE])] = None,
) -> str | None:
    """The key of a request, if it has one."""
    return parse_key(request.headers.getlist(HEADER))


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]


@refuses(KeyMissing(), KeyInvalid(), KeyReused(), KeyInUse())
async def required_idempotency_key(
    request: Request,
    _header: Annotated[
        str | None, Header(alias=HEADER, description=f"Required. {FORMAT}", examples=[EXAMPLE])
    ] = None,  # not required for FastAPI, which would respond with 422
) -> str:
    """The key of a request that must have one."""
    key = parse_key(request.headers.getlist(HEADER))
    if key is None:
        raise KeyMissing
    return key


RequiredIdempotencyKey = Annotated[str, Depends(required_idempotency_key)]


def key_of_staff(sent: str, request: Request, caller: Caller, fingerprint: str) -> Key:
    """The key that a member of staff sent: it counts for this caller, method and path."""
    actor = caller.actor
    return Key.of(f"{actor.kind}:{actor.id}", request.method, route_path(request.scope), sent, fingerprint=fingerprint)


def replayed_header(is_replay: bool) -> dict[str, str]:
    """The header of a response that repeats an earlier one."""
    return {REPLAYED: "true"} if is_replay else {}
