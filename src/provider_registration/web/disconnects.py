"""Clients that disconnect before the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.requests import ClientDisconnect


def client_check(request: Request) -> Callable[[], Awaitable[None]]:
    """A check that raises ClientDisconnect once the client has left; use it after the body was read."""

    async def check() -> None:
        if await request.is_disconnected():
            raise ClientDisconnect

    return check
