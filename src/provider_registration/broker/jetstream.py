"""The connection to NATS. Imported only with EVENTS_NATS_URL, because its client is an extra."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from urllib.parse import unquote, urlsplit

from nats.aio.client import Client
from nats.errors import Error, NoServersError
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import NoStreamResponseError, NotFoundError

from provider_registration.broker.errors import BrokerUnavailable
from provider_registration.broker.models import SUBJECTS, Message

CONNECT_SECONDS = 5.0
PUBLISH_SECONDS = 10.0  # for all messages of one call
CLOSE_SECONDS = 1.0
CONTENT_TYPE = "application/cloudevents+json"
NO_STREAM = f"no stream has the subjects {SUBJECTS}.>"


class JetStream:
    """Publishes messages over one connection, which opens when it is needed."""

    def __init__(self, url: str) -> None:
        """`url`: nats://user:password@host:4222 or nats://token@host; tls://… requires TLS."""
        self._url = urlsplit(url)
        self._client = Client()
        self._context = JetStreamContext(self._client)
        self._last_error: Exception | None = None

    async def connect(self) -> None:
        """Connect unless connected.

        Raises:
            BrokerUnavailable: NATS does not respond, or refuses the credentials.
        """
        if self._client.is_connected:
            return
        await self.aclose()
        self._client = Client()
        self._context = JetStreamContext(self._client)
        self._last_error = None
        user, password = self._url.username, self._url.password
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._client.connect(
                    self._url._replace(netloc=self._url.netloc.rpartition("@")[2]).geturl(),
                    name="provider-registration",
                    error_cb=self._remember,
                    allow_reconnect=False,  # the caller connects again
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    user=self._secret(user) if password is not None else None,
                    password=self._secret(password),
                    token=self._secret(user) if password is None else None,
                )
            self._require_tls()
        except (TimeoutError, OSError, Error, BrokerUnavailable) as error:
            await self.aclose()
            raise self._unavailable(error) from None

    async def publish(self, messages: Sequence[Message]) -> int:
        """Publish messages in their order; return how many were stored, without a gap.

        Raises:
            BrokerUnavailable: none was stored.
        """
        self._last_error = None
        # Not publish_async, whose futures never end if JetStream refuses a message.
        sending = [asyncio.create_task(self._send(message)) for message in messages]
        try:
            await asyncio.wait(sending, timeout=PUBLISH_SECONDS)
        finally:
            for task in sending:
                task.cancel()
        results = await asyncio.gather(*sending, return_exceptions=True)
        stored = sum(1 for _ in takewhile(lambda result: isinstance(result, PubAck), results))
        if stored < len(messages):
            await self.aclose()  # also forgets the other messages
        if stored == 0:
            raise self._unavailable(results[0])
        return stored

    async def _send(self, message: Message) -> PubAck:
        headers = {"Nats-Msg-Id": message.event_id, "Content-Type": CONTENT_TYPE}
        return await self._context.publish(message.subject, message.body, timeout=PUBLISH_SECONDS, headers=headers)

    async def find_stream(self) -> None:
        """Check that a stream stores the messages.

        Raises:
            BrokerUnavailable: none does, or the account may not ask.
        """
        try:
            await self._context.find_stream_name_by_subject(f"{SUBJECTS}.candidate.registered")
        except NotFoundError as error:
            raise BrokerUnavailable(NO_STREAM) from error
        except (TimeoutError, OSError, Error) as error:
            raise self._unavailable(error) from error

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        if self._client.is_connected or self._client.is_connecting:
            with suppress(TimeoutError, OSError, Error):
                async with asyncio.timeout(CLOSE_SECONDS):  # after a failed handshake the client would wait for ever
                    await self._client.close()
        # The client leaves its socket open if it could not close within that time, or lost the connection meanwhile.
        if transport := self._client._transport:
            transport.close()  # type: ignore[no-untyped-call]

    def _secret(self, value: str | None) -> Callable[[], str] | None:
        """A part of the URL; the client asks for it after the TLS handshake, if the server wants it."""
        if value is None:
            return None

        def get() -> str:
            self._require_tls()
            return unquote(value)

        return get

    def _require_tls(self) -> None:
        # The client alone would trust a server that does not ask for TLS.
        if self._url.scheme == "tls" and not self._client._server_info.get("tls_required"):
            raise BrokerUnavailable("NATS does not offer TLS, which tls:// requires")

    async def _remember(self, error: Exception) -> None:
        self._last_error = error

    def _unavailable(self, error: object) -> BrokerUnavailable:
        if isinstance(error, (TimeoutError, asyncio.CancelledError, NoServersError)):  # what came before tells more
            error = self._last_error or error
        if isinstance(error, BrokerUnavailable):
            return error
        if isinstance(error, NoStreamResponseError):
            return BrokerUnavailable(NO_STREAM)
        if isinstance(error, (TimeoutError, asyncio.CancelledError)):
            return BrokerUnavailable("NATS does not respond")
        return BrokerUnavailable(f"{type(error).__name__}: {error}")


async def find_problem(url: str) -> str | None:
    """Why events could not be published; None if they can."""
    jetstream = JetStream(url)
    try:
        await jetstream.connect()
        await jetstream.find_stream()
    except BrokerUnavailable as error:
        return str(error)
    finally:
        await jetstream.aclose()
    return None
