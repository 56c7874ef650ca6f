"""A billing system over HTTP: `POST /provider`, with the idempotency key in a header."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from uuid import UUID

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yarl import URL

from provider_registration.billing.connections import open_session
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
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)  # also if none became free
INVALID_HTTP = (aiohttp.ClientResponseError, aiohttp.ClientPayloadError)
WORDS = {  # for errors without the error number of a system call
    aiohttp.ServerTimeoutError: "timeout",
    aiohttp.ServerDisconnectedError: "connection closed",
    aiohttp.ClientConnectorDNSError: "unknown host",
    aiohttp.ClientConnectorCertificateError: "invalid certificate",
    aiohttp.ClientSSLError: "TLS error",
}


class Provider(BaseModel):
    """The provider in billing's response. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True)

    id: int = Field(ge=1, le=MAX_PROVIDER_ID)
    name: str


class HttpBillingSystem:
    """A BillingSystem; create one for the life of the process, inside the event loop that uses it."""

    def __init__(
        self, base_url: str, *, connect_timeout: float, timeout: float, traces: Sequence[aiohttp.TraceConfig] = ()
    ) -> None:
        """Timeouts are in seconds, per request."""
        self._session = open_session(MAX_CONNECTIONS, timeout=timeout, connect_timeout=connect_timeout, traces=traces)
        self._url = URL(f"{base_url}/provider")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def create_provider(self, name: str, idempotency_key: UUID, *, responding: Callable[[], None]) -> int:
        """Implements the port: 201 returns the provider, 409 means that the name is taken, other 4xx refuse."""
        await reach("billing.before-send")
        body = json.dumps({"name": name}).encode()
        try:
            async with self._session.post(
                self._url, data=body, headers=_headers(idempotency_key), allow_redirects=False
            ) as response:
                responding()
                answer = await _read(response)
        except NOT_SENT as error:
            raise BillingNotSent(f"billing cannot be reached ({_words(error)})") from None
        except INVALID_HTTP:
            raise BillingUnusable("billing's response is not valid HTTP, or was cut off") from None
        except aiohttp.ClientError as error:
            raise BillingUncertain(f"billing did not respond ({_words(error)})") from None
        await reach("billing.after-response")
        status = response.status
        if status == HTTPStatus.CREATED:
            return _provider_id(name, response.headers, answer)
        if status == HTTPStatus.CONFLICT:
            raise BillingNameTaken
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise BillingRefused(
                f"billing refused the request with status {status}", is_retryable=status in RETRYABLE_STATUSES
            )
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise BillingUnusable(f"billing returned status {status}")
        raise BillingUncertain(
            f"billing returned status {status}", retry_after_seconds(response.headers.get("Retry-After", ""))
        )


def _words(error: aiohttp.ClientError) -> str:
    """What happened, without the names and addresses in the error's own text."""
    for kind, words in WORDS.items():
        if isinstance(error, kind):
            return words
    if isinstance(error.__cause__, ssl.SSLError):  # after the handshake, as when TLS 1.3 refuses our certificate
        return WORDS[aiohttp.ClientSSLError]
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else "connection failed"


def _headers(idempotency_key: UUID) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Idempotency-Key": str(idempotency_key),
    }
    if request_id := request_id_var.get():
        headers["X-Request-ID"] = request_id
    return headers


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None if it is too long. It is not decompressed: 5 KB can become 3 GB."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            return None
    return bytes(body)


def _provider_id(name: str, headers: Mapping[str, str], body: bytes | None) -> int:
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
