"""Calls to billing."""

from __future__ import annotations

import asyncio
import random
from typing import Annotated
from uuid import UUID

import httpx
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

TRIES = 3
KEYED_TRIES = 4
FIRST_WAIT = 0.5  # seconds
MAX_ANSWER = 64 * 1024
MAX_PROVIDER_ID = 2**31 - 1
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
RETRYABLE = frozenset({408, 425, 429})


class BillingError(Exception):
    """A call failed.

    `outcome`: not_sent or refused, billing created nothing; uncertain, it may have; unusable, and asking again is no
    use.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Provider(msgspec.Struct):
    """What billing answers."""

    id: Annotated[int, msgspec.Meta(ge=1, le=MAX_PROVIDER_ID)]
    name: str


PROVIDER = msgspec.json.Decoder(Provider)


def connect(url: str) -> httpx.AsyncClient:
    """A client that keeps its connections."""
    limits = httpx.Limits(max_connections=16, max_keepalive_connections=16)
    return httpx.AsyncClient(base_url=url, timeout=5.0, limits=limits, trust_env=False)


async def create_provider(billing: httpx.AsyncClient, name: str) -> int:
    """The plain call: any failure is tried again, and the ID is taken as it comes."""
    retrying = AsyncRetrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=4),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    try:
        async for attempt in retrying:
            with attempt:
                response = await billing.post("/provider", json={"name": name})
                return int(response.raise_for_status().json()["id"])
    except httpx.HTTPError as error:
        raise BillingError("uncertain", str(error)) from None
    raise AssertionError


async def create_provider_once(billing: httpx.AsyncClient, name: str, key: UUID, *, maybe_sent: bool) -> int:
    """The call with a key: the answer is checked, and a failure says whether there may be a provider."""
    for number in range(1, KEYED_TRIES + 1):
        try:
            return await _attempt(billing, name, key)
        except BillingError as error:
            if error.outcome in ("not_sent", "uncertain") and number < KEYED_TRIES:
                maybe_sent = maybe_sent or error.outcome == "uncertain"
                await asyncio.sleep(FIRST_WAIT * 2 ** (number - 1) * random.uniform(1, 1.25))  # noqa: S311 - no secret
                continue
            if maybe_sent:
                error.outcome = {"not_sent": "uncertain", "refused": "unusable"}.get(error.outcome, error.outcome)
            raise
    raise AssertionError


async def _attempt(billing: httpx.AsyncClient, name: str, key: UUID) -> int:
    try:
        response = await billing.post("/provider", json={"name": name}, headers={"Idempotency-Key": str(key)})
    except httpx.HTTPError as error:
        raise BillingError("not_sent" if isinstance(error, NOT_SENT) else "uncertain", str(error)) from None
    status = response.status_code
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in RETRYABLE:
        raise BillingError("uncertain", f"billing answered {status}")
    if status >= httpx.codes.BAD_REQUEST:
        raise BillingError("refused", f"billing answered {status}")
    try:
        provider = PROVIDER.decode(response.content) if len(response.content) <= MAX_ANSWER else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        provider = None
    if status != httpx.codes.CREATED or provider is None or provider.name != name:
        raise BillingError("unusable", f"billing answered {status} with no usable provider")
    return provider.id
