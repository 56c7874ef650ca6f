"""Receivers of webhooks on loopback: real HTTP and HTTPS servers that respond well, badly, slowly or never."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trustme
from standardwebhooks import Webhook

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: int, text: str = "", **headers: str) -> bytes:
    """A whole response; underscores in names of headers are hyphens."""
    body = text.encode()
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Message:
    """A request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, object]:
        return json.loads(self.body)

    def verified(self, secret: str) -> dict[str, object]:
        """The event, once an independent implementation has verified it."""
        return Webhook(secret).verify(self.body, self.headers)


Respond = Callable[[Message, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Receiver:
    """A server; `respond` is called for each request."""

    port: int = 0
    messages: list[Message] = field(default_factory=list)
    connections: int = 0
    respond: Respond | None = None
    names: list[str | None] = field(default_factory=list)  # that clients asked for by SNI

    def always(self, response: bytes) -> None:
        """Respond to each request with the same bytes."""

        async def respond(_message: Message, writer: asyncio.StreamWriter) -> None:
            writer.write(response)

        self.respond = respond

    async def has(self, count: int, seconds: float = 20) -> list[Message]:
        """The messages, once there are so many."""
        async with asyncio.timeout(seconds):
            while len(self.messages) < count:
                await asyncio.sleep(0.02)
        return self.messages

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            message = Message(line.split()[1], headers, body)
            self.messages.append(message)
            await self.respond(message, writer)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(
    response: bytes = OK, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver while the block runs."""
    receiver = Receiver()
    receiver.always(response)
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.names.append(name)
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await receiver.handle(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Authority:
    """A certificate authority of the tests."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def trusted(self) -> ssl.SSLContext:
        """A client that trusts it."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        return context

    def server(self, *names: str) -> ssl.SSLContext:
        """A server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._ca.cert_pem.bytes()


class Names:
    """A name server of the tests: the answers for each host, one after another; the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {host.replace("_", "."): list(each) for host, each in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise OSError("unknown")
        return answers.pop(0) if len(answers) > 1 else answers[0]
