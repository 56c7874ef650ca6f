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
        self._client = Client()
        self._context = JetStreamContext(self._client)
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
            raise _unavailable(self._last_error if isinstance(error, NoServersError) else error) from error

    async def publish(self, messages: Sequence[Message]) -> int:
        """Publish messages in their order; return how many were stored, without a gap.

        Raises:
            BrokerUnavailable: none was stored.
        """
        acks: list[asyncio.Future[PubAck]] = []
        failure: Exception | None = None
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                for message in messages:
                    headers = {"Nats-Msg-Id": message.event_id, "Content-Type": CONTENT_TYPE}
                    acks.append(await self._context.publish_async(message.subject, message.body, headers=headers))
                await asyncio.wait(acks)
        except (TimeoutError, OSError, Error) as error:
            failure = error
        errors = [ack.exception() if ack.done() else failure for ack in acks]
        stored = sum(1 for _ in takewhile(lambda error: error is None, errors))
        if stored < len(messages):
            await self.aclose()  # also forgets the other messages
        if stored == 0:
            raise _unavailable(next((error for error in errors if error), failure))
        return stored

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
            raise _unavailable(error) from error

    async def aclose(self) -> None:
        """Close the connection."""
        with suppress(TimeoutError, OSError, Error):
            await self._client.close()

    def _secret(self, value: str | None) -> Callable[[], str] | None:
        """A part of the URL; the client asks for it after the handshake of TLS, if the server wants one."""
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


def _unavailable(error: BaseException | None) -> BrokerUnavailable:
    if isinstance(error, BrokerUnavailable):
        return error
    if isinstance(error, NoStreamResponseError):
        return BrokerUnavailable(NO_STREAM)
    if isinstance(error, TimeoutError) or error is None:
        return BrokerUnavailable("NATS does not respond")
    return BrokerUnavailable(f"{type(error).__name__}: {error}")
