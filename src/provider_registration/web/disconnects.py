"""Clients that disconnect before the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response


def client_check(request: Request) -> Callable[[], Awaitable[None]]:
    """A check that raises ClientDisconnect once the client has left; use it after the body was read."""

    async def check() -> None:
        if await request.is_disconnected():
            raise ClientDisconnect

    return check


def response_after_disconnect() -> Response:
    """A response that only the metrics see."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)
