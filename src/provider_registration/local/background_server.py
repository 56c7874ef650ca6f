"""Serves an ASGI application in the running event loop, and lets it reset connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A key of scope["extensions"]; its value is {"reset": a callable without parameters}.
RESET_EXTENSION = "provider_registration.reset"
KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections, so that clients close first
GRACE = 0.5  # seconds for running requests at shutdown
BACKLOG = 2048  # connections that the kernel queues
# struct linger {on, 0 seconds}: closing discards unsent data and sends RST instead of FIN.
NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class ResettableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with an ASGI extension to reset the TCP connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Disable the access log; uvicorn's setting would also affect other servers in this process."""
        super().connection_made(transport)
        self.access_log = False

    def on_message_begin(self) -> None:
        """Add the reset extension to the scope."""
        super().on_message_begin()
        self.scope["extensions"] = {RESET_EXTENSION: {"reset": self.reset}}

    def reset(self) -> None:
        """Close the connection with a TCP reset; the client gets no more data."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None and not self.transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()


class QuickStopServer(uvicorn.Server):
    """A server that stops within about a second, even with active clients."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app, http=ResettableProtocol, ws="none", log_config=None, timeout_keep_alive=KEEP_ALIVE_SECONDS
        )
        config.timeout_graceful_shutdown = 1  # seconds
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait briefly for running requests, then close their connections."""
        for connection in list(self.server_state.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GRACE
        while self.server_state.tasks and loop.time() < deadline:  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.01)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


class _BackgroundServer(QuickStopServer):
    """A server that does not change the signal handlers of the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not capture signals."""
        yield


@contextlib.asynccontextmanager
async def serve_in_background(app: ASGIApp, port: int = 0, *, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve `app` and its lifespan while the block runs; yields the base URL, such as `http://127.0.0.1:41234`.

    Port 0 selects a free one.

    Raises:
        OSError: the port is taken.
        RuntimeError: the application's lifespan failed to start; its error is in the log.
    """
    listener = listen(host, port)
    server = _BackgroundServer(app)
    with contextlib.closing(listener):
        serving = asyncio.create_task(_serve(server, listener))
        try:
            while not server.started:
                if serving.done():
                    await serving
                    raise RuntimeError("the server ended before it had started")
                await asyncio.sleep(0.005)
            yield base_url(listener)
        finally:
            server.should_exit = True
            await serving


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    try:
        await server.serve(sockets=[listener])
    except SystemExit as error:
        # uvicorn raises this if the lifespan fails; in a task it would stop the event loop.
        raise RuntimeError("the application did not start; its error is in the log") from error


def serve_in_foreground(app: ASGIApp, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve `app` until SIGINT or SIGTERM; `announce` gets the base URL once the port is bound.

    Raises:
        OSError: the port is taken.
    """
    listener = listen(host, port)
    with contextlib.closing(listener), contextlib.suppress(KeyboardInterrupt):
        announce(base_url(listener))
        QuickStopServer(app).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; new connections wait for the server.

    Raises:
        OSError: the port is taken, or `host` is not an IP address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio only sets TCP_NODELAY if the protocol is given; without it a response takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # on Windows the option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def base_url(listener: socket.socket) -> str:
    """The base URL for clients on this machine, without a path."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
