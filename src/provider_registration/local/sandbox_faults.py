"""The faults of the billing sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from provider_registration.local.background_server import RESET_EXTENSION

MAX_HANG = 120.0  # seconds
OVERSIZE_CHUNKS, OVERSIZE_CHUNK = 512, b"x" * 65_536  # 32 MiB in all

Mode = Literal[
    "none",
    "fail_500",  # 500, nothing created
    "fail_503",  # 503, nothing created
    "refuse_400",  # 400, nothing created
    "redirect",  # 307 to a path that does not exist, nothing created
    "hang",  # nothing created, no response until the client disconnects or 120 s have passed
    "reset",  # nothing created, TCP reset
    "slow",  # waits, then creates and responds, even if the client has disconnected
    "commit_then_hang",
    "commit_then_500",
    "commit_then_reset",
    "broken_201",  # created; 201 with truncated JSON
    "oversize",  # created; 201 with valid JSON of 32 MiB
    "wrong_name",  # created; 201 with the right id and another name
    "bad_id",  # created; 201 whose id is the fault's `bad_id`
]
COMMITTING: frozenset[Mode] = frozenset(
    {
        *("none", "slow", "commit_then_hang", "commit_then_500", "commit_then_reset"),
        *("broken_201", "oversize", "wrong_name", "bad_id"),
    }
)


class Fault(BaseModel):
    """How the next requests fail. `delay` comes before the failure, and after the commit if there is one;
    with `slow`, before it.
    """

    model_config = ConfigDict(extra="forbid")

    mode: Mode = "none"
    times: Annotated[int, Field(ge=1)] | None = None  # remaining requests; None: until it is changed
    delay: Annotated[float, Field(ge=0, le=MAX_HANG)] = 0.0  # seconds
    retry_after: Annotated[int, Field(ge=0)] | None = None  # seconds, sent with 4xx and 5xx
    names: list[str] | None = None  # only for these companies; None: for all
    bad_id: Any = "not-a-number"  # any JSON value

    def applies_to(self, name: str) -> bool:
        """Whether a request for this company fails."""
        return self.mode != "none" and (self.names is None or name in self.names)


class NoResponse(Response):
    """Sends no response: resets the connection after `seconds`, or ends when the client disconnects."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""
        try:
            async with asyncio.timeout(self._seconds):
                await _client_gone(receive)
        except TimeoutError:
            scope["extensions"][RESET_EXTENSION]["reset"]()
            await _client_gone(receive)  # after this, uvicorn does not send a 500 itself


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def response_before_commit(fault: Fault) -> Response:
    """The response of a mode that creates nothing."""
    match fault.mode:
        case "fail_500":
            return _failure(500, "The billing sandbox fails as configured.", fault.retry_after)
        case "fail_503":
            return _failure(503, "The billing sandbox is unavailable as configured.", fault.retry_after)
        case "refuse_400":
            return _failure(400, "The billing sandbox refuses as configured.", fault.retry_after)
        case "redirect":
            return Response(status_code=307, headers={"Location": "/sandbox/moved"})
        case "hang":
            return NoResponse(MAX_HANG)
        case "reset":
            return NoResponse(0)
        case _:
            raise AssertionError(fault.mode)


def response_after_commit(fault: Fault, real: Response, provider: dict[str, object] | None) -> Response:
    """The faulty response instead of the real one; `provider` is None if its name or key was refused."""
    match fault.mode:
        case "commit_then_hang":
            return NoResponse(MAX_HANG)
        case "commit_then_reset":
            return NoResponse(0)
        case "commit_then_500":
            return _failure(500, "The billing sandbox fails after its commit.", fault.retry_after)
        case _:
            return real if provider is None else _distorted(fault, provider)


def _distorted(fault: Fault, provider: dict[str, object]) -> Response:
    match fault.mode:
        case "broken_201":
            return Response(json.dumps(provider)[:-5], status_code=201, media_type="application/json")
        case "oversize":
            return StreamingResponse(_oversize(provider), status_code=201, media_type="application/json")
        case "wrong_name":
            return JSONResponse({**provider, "name": f"not {provider['name']}"}, status_code=201)
        case "bad_id":
            return JSONResponse({**provider, "id": fault.bad_id}, status_code=201)
        case _:
            raise AssertionError(fault.mode)


def _failure(status: int, detail: str, retry_after: int | None) -> Response:
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)


async def _oversize(provider: dict[str, object]) -> AsyncIterator[bytes]:
    yield json.dumps(provider)[:-1].encode() + b', "padding": "'
    for _ in range(OVERSIZE_CHUNKS):
        yield OVERSIZE_CHUNK
    yield b'"}'
