"""Callers who left before their answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.requests import ClientDisconnect


def still_wanted(request: Request) -> Callable[[], Awaitable[None]]:
    """What raises ClientDisconnect once the caller has left; for a request whose body was read."""

    async def check() -> None:
        if await request.is_disconnected():
            raise ClientDisconnect

    return check
