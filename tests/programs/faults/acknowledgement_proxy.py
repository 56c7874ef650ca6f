"""A TCP proxy in front of PostgreSQL that can drop the acknowledgement of one commit.

It reads the messages of PostgreSQL's frontend protocol (version 3) far enough to know which statements a transaction
executed: the wanted commit is the one of a transaction with a wanted statement. A statement outside of a transaction is
one by itself, which commits at Sync.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102
CHUNK = 65_536


class AcknowledgementProxy:
    """Forwards everything, except once: `swallow` names a statement whose commit is not acknowledged."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._wanted: bytes | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.swallowed = asyncio.Event()
        self.port = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Listen on a free port while the block runs."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def swallow(self, statement: str) -> None:
        """Drop the response to the next commit of a transaction with a statement that contains this text."""
        self._wanted = statement.encode()
        self.swallowed.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._pass_on(reader, writer)
        finally:
            writer.close()
            self._connections.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        connection = _Connection(self, reader, writer, server_reader, server_writer)
        up, down = asyncio.create_task(connection.pass_up()), asyncio.create_task(connection.pass_down())
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            server_writer.close()

    def take(self, executed: set[bytes]) -> bool:
        """Whether a transaction that executed these statements is the wanted one; if so, no other is."""
        if self._wanted is None or not any(self._wanted in statement for statement in executed):
            return False
        self._wanted = None
        return True


class _Connection:
    def __init__(
        self,
        proxy: AcknowledgementProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._server_reader, self._server_writer = server_reader, server_writer
        self._prepared: dict[bytes, bytes] = {}
        self._executed: set[bytes] = set()
        self._in_transaction = False
        self._is_mute = False

    async def pass_up(self) -> None:
        """Forward the client's messages, one by one, until one side disconnects."""
        with suppress(OSError, EOFError):
            await self._pass_up()

    async def _pass_up(self) -> None:
        code = SSL_REQUEST
        while code == SSL_REQUEST:  # its response, N, is forwarded before the client continues
            length = await self._reader.readexactly(4)
            body = await self._reader.readexactly(struct.unpack("!I", length)[0] - 4)
            code = struct.unpack("!I", body[:4])[0]
            self._server_writer.write(length + body)
        if code == CANCEL_REQUEST:
            return
        while True:
            head = await self._reader.readexactly(5)
            body = await self._reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
            self._note(head[:1], body)
            self._server_writer.write(head + body)
            await self._server_writer.drain()

    def _note(self, kind: bytes, body: bytes) -> None:
        match kind:
            case b"P":  # Parse: statement's name, its text
                name, text, *_ = body.split(b"\0", 2)
                self._prepared[name] = text
            case b"B":  # Bind: portal's name, statement's name
                self._executed.add(self._prepared.get(body.split(b"\0", 2)[1], b""))
            case b"Q" if body.startswith(b"BEGIN"):
                self._in_transaction = True
            case b"Q" if body.startswith(b"COMMIT"):
                self._end(is_commit=True)
            case b"Q" if body.startswith(b"ROLLBACK"):
                self._end(is_commit=False)
            case b"S" if not self._in_transaction:  # Sync
                self._end(is_commit=True)
            case _:
                pass

    def _end(self, *, is_commit: bool) -> None:
        self._is_mute = is_commit and self._proxy.take(self._executed)
        self._executed.clear()
        self._in_transaction = False

    async def pass_down(self) -> None:
        """Forward the server's data; once muted, read it and close the connection instead."""
        with suppress(OSError):
            await self._pass_down()

    async def _pass_down(self) -> None:
        while data := await self._server_reader.read(CHUNK):
            if self._is_mute:
                self._proxy.swallowed.set()
                return
            self._writer.write(data)
            await self._writer.drain()
