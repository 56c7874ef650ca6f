"""A billing system over HTTP: `POST /provider`, with the idempotency key in a header."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provider_registration.billing.connections import Connections, Wrap
from provider_registration.billing.errors import (
    BillingNameTaken,
    BillingNotSent,
    BillingRefused,
    BillingUncertain,
    BillingUnusable,
)
from provider_registration.billing.port import MAX_PROVIDER_ID
from provider_registration.failpoints import reach
from provider_registration.observability.logs import request_id_var
from provider_registration.web.headers import retry_after_seconds

MAX_RESPONSE_BYTES = 64 * 1024
MAX_CONNECTIONS = 16
RETRYABLE_STATUSES = frozenset({408, 425, 429})  # 4xx whose reason is not the request itself
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Provider(BaseModel):
    """The provider in billing's response. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True)

    id: int = Field(ge=1, le=MAX_PROVIDER_ID)
    name: str


class HttpBillingSystem:
    """A BillingSystem; create one for the life of the process, since that takes 20 ms."""

    def __init__(self, base_url: str, *, connect_timeout: float, timeout: float, wrap: Wrap | None = None) -> None:
        """Timeouts are in seconds, per request. `wrap` is applied to each transport, for tracing."""
        self._connections = Connections(MAX_CONNECTIONS, wrap=wrap)
        self._url = httpx.URL(f"{base_url}/provider")
        self._timeout = timeout
        self._extensions = {"timeout": httpx.Timeout(timeout, connect=connect_timeout).as_dict()}

    async def aclose(self) -> None:
        """Close every connection that is not in use."""
        await self._connections.aclose()

    async def create_provider(self, name: str, idempotency_key: UUID, *, responding: Callable[[], None]) -> int:
        """Implements the port: 201 returns the provider, 409 means that the name is taken, other 4xx refuse."""
        response = None
        await reach("billing.before-send")
        try:
            async with self._send(name, idempotency_key) as response:
                responding()
                body = await _read(response)
        except NOT_SENT as error:
            raise BillingNotSent(f"billing cannot be reached ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            if isinstance(error, httpx.RemoteProtocolError) and (response is not None or _is_malformed(error)):
                raise BillingUnusable("billing's response is not valid HTTP, or was cut off") from None
            raise BillingUncertain(f"billing did not respond ({type(error).__name__})") from None
        await reach("billing.after-response")
        status = response.status_code
        if status == httpx.codes.CREATED:
            return _provider_id(name, response.headers, body)
        if status == httpx.codes.CONFLICT:
            raise BillingNameTaken
        if httpx.codes.is_client_error(status):
            raise BillingRefused(
                f"billing refused the request with status {status}", is_retryable=status in RETRYABLE_STATUSES
            )
        if not httpx.codes.is_server_error(status):
            raise BillingUnusable(f"billing returned status {status}")
        raise BillingUncertain(
            f"billing returned status {status}", retry_after_seconds(response.headers.get("Retry-After", ""))
        )

    @asynccontextmanager
    async def _send(self, name: str, idempotency_key: UUID) -> AsyncIterator[httpx.Response]:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Idempotency-Key": str(idempotency_key),
        }
        if request_id := request_id_var.get():
            headers["X-Request-ID"] = request_id
        request = httpx.Request("POST", self._url, json={"name": name}, headers=headers, extensions=self._extensions)
        async with self._connections.borrow(self._timeout) as transport:
            response = await transport.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()


async def _read(response: httpx.Response) -> bytes | None:
    """The body, or None if it is too long. It is not decompressed: 5 KB can become 3 GB."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            return None
    return bytes(body)


def _provider_id(name: str, headers: httpx.Headers, body: bytes | None) -> int:
    if headers.get("Content-Encoding", "").lower() not in ("", "identity"):
        raise BillingUnusable("billing's response is compressed, although we sent Accept-Encoding: identity")
    if body is None:
        raise BillingUnusable(f"billing's response is longer than {MAX_RESPONSE_BYTES} bytes")
    try:
        provider = Provider.model_validate_json(body)
    except ValidationError:
        raise BillingUnusable("billing returned 201 without a usable provider") from None
    if provider.name != name:
        raise BillingUnusable("billing returned 201 with another provider's name")
    return provider.id


def _is_malformed(error: httpx.RemoteProtocolError) -> bool:
    """Whether the parser, h11, rejected the response; otherwise the connection closed before the headers ended."""
    cause = error.__cause__.__context__ if error.__cause__ else None  # the cause of httpcore's error
    return type(cause).__module__.partition(".")[0] == "h11"
