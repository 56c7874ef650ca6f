"""HEAD requests: handled as GET, while the server leaves the body out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from provider_registration.observability.endpoints import IS_HEAD


async def asks_for_headers_only(request: Request) -> bool:
    """Whether the request is a HEAD request, for endpoints that record or stream what they return."""
    return bool(request.scope.get(IS_HEAD))


HeadersOnly = Annotated[bool, Depends(asks_for_headers_only)]


async def no_parts() -> AsyncIterator[str]:
    """The body of a streamed response to HEAD: nothing is read for it, and it has no Content-Length (RFC 9110, 8.6)."""
    parts: tuple[str, ...] = ()
    for part in parts:
        yield part
