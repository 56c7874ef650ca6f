"""Sends one message to one URL, at an IP address that was checked in this attempt."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from provider_registration import __version__
from provider_registration.web.headers import retry_after_seconds
from provider_registration.webhooks.addresses import AddressRules, IPAddress
from provider_registration.webhooks.resolving import Resolver
from provider_registration.webhooks.urls import WebhookUrl

ATTEMPT_SECONDS = 15.0  # with name resolution
CONNECT_SECONDS = 5.0  # for each IP address
MAX_ADDRESSES = 3  # of a host, tried one after another until one accepts the connection
MAX_RESPONSE_BYTES = 64 * 1024
MAX_RECEIVED_BYTES = 2 * MAX_RESPONSE_BYTES  # with the head and what frames the body
READ_BYTES = 2048  # at once: a byte a chunk, they are parsed in 20 ms, in which nothing else runs
MAX_SHOWN = 200  # characters of the response
NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class Response:
    """What a receiver responded: its status, the first characters, and seconds of `Retry-After`.

    Without a status, `error` says why there is no response.
    """

    status: int | None = None
    text: str = ""
    retry_after: float = 0.0
    error: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver accepted the message."""
        return self.status is not None and httpx.codes.is_success(self.status)


class Sender:
    """Sends messages. It does not follow redirects, and uses no proxy and no cookies."""

    def __init__(
        self,
        rules: AddressRules,
        resolver: Resolver,
        *,
        tls: ssl.SSLContext,
        allow_http: bool = False,
        seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        """`seconds` bound each attempt as a whole."""
        self._rules = rules
        self._resolver = resolver
        self._tls = tls
        self._allow_http = allow_http
        self._seconds = seconds

    async def post(self, url: WebhookUrl, headers: Mapping[str, str], body: bytes) -> Response:
        """Send JSON once; errors are in the response."""
        attempt = _Attempt(url, headers, body, tls=self._tls)
        try:
            async with asyncio.timeout(self._seconds):
                addresses = await self._addresses(url)
                refusal = self._refusal(url, addresses)
                if refusal is not None:
                    return Response(error=refusal)
                return await attempt.send(addresses[:MAX_ADDRESSES])
        except TimeoutError:
            return attempt.response or Response(error=f"no response within {self._seconds:g} s")
        except ssl.SSLError:
            return Response(error="the TLS connection failed")
        except OSError:
            return Response(error="the host name could not be resolved")
        except httpx.HTTPError as error:
            return attempt.response or Response(error=_reason(error))

    def _refusal(self, url: WebhookUrl, addresses: list[IPAddress]) -> str | None:
        """Why nothing is sent to a URL, although it was accepted once."""
        if url.scheme == "http" and not self._allow_http:
            return "the URL does not start with https://, and WEBHOOKS_ALLOW_HTTP is false"
        refused = next((each for each in addresses if not self._rules.permits(each)), None)
        if refused is None:
            return None
        return f"the host's IP address {refused} is neither public nor in WEBHOOKS_ALLOWED_NETWORKS"

    async def _addresses(self, url: WebhookUrl) -> list[IPAddress]:
        return [url.address] if url.address is not None else await self._resolver.resolve(url.host)


class _Attempt:
    """One attempt; `response` has what was received of the response when it fails."""

    def __init__(self, url: WebhookUrl, headers: Mapping[str, str], body: bytes, *, tls: ssl.SSLContext) -> None:
        self._url = url
        self._headers = {
            "Host": url.authority,
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"provider-registration/{__version__}",
            "Connection": "close",
            **headers,
        }
        self._body = body
        self._tls = tls
        self.response: Response | None = None

    async def send(self, addresses: list[IPAddress]) -> Response:
        """Send to the first IP address that accepts a connection."""
        for address in addresses[:-1]:
            try:
                return await self._send_to(address)
            except NOT_CONNECTED:  # nothing was sent
                continue
        return await self._send_to(addresses[-1])

    async def _send_to(self, address: IPAddress) -> Response:
        request = httpx.Request(
            "POST",
            httpx.URL(
                scheme=self._url.scheme, host=str(address), port=self._url.port, raw_path=self._url.target.encode()
            ),
            headers=self._headers,
            content=self._body,
            # The certificate must be that of the host in the URL, not of the IP address.
            extensions={
                "sni_hostname": self._url.host,
                "timeout": httpx.Timeout(ATTEMPT_SECONDS, connect=CONNECT_SECONDS).as_dict(),
            },
        )
        # A transport for each attempt: a pool keyed by IP address would reuse the connection of another host name.
        async with _Transport(self._tls) as transport:
            received = await transport.handle_async_request(request)
            try:
                self.response = Response(
                    received.status_code, retry_after=retry_after_seconds(received.headers.get("Retry-After", ""))
                )
                text = bytearray()
                async for chunk in received.aiter_raw():  # not decompressed: 5 KB can become 3 GB
                    text += chunk
                    if len(text) > MAX_RESPONSE_BYTES:
                        break
            finally:
                await received.aclose()
        return Response(self.response.status, _shown(bytes(text)), self.response.retry_after)


class _Transport(httpx.AsyncHTTPTransport):
    """A transport for one connection, which reads a bounded number of bytes."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls, max_connections=1, max_keepalive_connections=0, network_backend=_Backend()
        )


class _Backend(httpcore.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpcore.AsyncNetworkStream):
    """Reads little at once and not much in all: informational responses and tiny chunks would never end."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MAX_RECEIVED_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        await asyncio.sleep(0)  # bytes that have arrived are read without a pause
        if self._left <= 0:
            raise httpcore.ReadError("the response is too long")
        received = await self._stream.read(min(max_bytes, READ_BYTES), timeout)
        self._left -= len(received)
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's
        return self._stream.get_extra_info(info)


def _shown(text: bytes) -> str:
    """The first characters of a response, in one line without control characters."""
    words = text[: MAX_SHOWN * 8].decode(errors="replace").split()
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in " ".join(words)
    )
    return line[:MAX_SHOWN]


def _reason(error: httpx.HTTPError) -> str:
    cause = error.__cause__.__context__ if error.__cause__ else None  # of httpcore's error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "the certificate is not valid for the host"
    if isinstance(error, NOT_CONNECTED):
        return "the host does not accept connections"
    if isinstance(error, httpx.TimeoutException):
        return f"no response within {ATTEMPT_SECONDS:g} s"
    return "the connection was closed, or the response is not valid HTTP"
