"""Resolves host names in threads of its own: a name server that does not respond must not block other work."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread

from provider_registration.webhooks.addresses import IPAddress

Lookup = Callable[[str], Sequence[str]]


def look_up(host: str) -> list[str]:
    """The IP addresses of a host, in the order in which to try them; it may block for a minute."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Resolver:
    """One thread for each host that is being resolved; requests for the same host share it."""

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._running: dict[str, asyncio.Future[list[IPAddress]]] = {}

    async def resolve(self, host: str) -> list[IPAddress]:
        """The IP addresses of a host name, without repetitions. Bound the time: the thread may outlive it.

        Raises:
            OSError: it has none.
        """
        future = self._running.get(host)
        if future is None:
            future = self._running[host] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda future: self._done(host, future))
            # A daemon: the process can end while it waits. The pool of the event loop would wait for it.
            Thread(target=self._run, args=(host, future), name="webhook-resolver", daemon=True).start()
        return await asyncio.shield(future)

    def _run(self, host: str, future: asyncio.Future[list[IPAddress]]) -> None:
        found: list[IPAddress] = []
        error: Exception | None = None
        try:
            found = list(dict.fromkeys(ip_address(address) for address in self._lookup(host)))
        except (OSError, ValueError) as raised:  # UnicodeError: a label that is too long
            error = raised if isinstance(raised, OSError) else OSError(str(raised))
        with suppress(RuntimeError):  # the loop has ended meanwhile
            future.get_loop().call_soon_threadsafe(_settle, future, found, error)

    def _done(self, host: str, future: asyncio.Future[list[IPAddress]]) -> None:
        del self._running[host]
        if not future.cancelled():
            future.exception()  # mark it as retrieved, even if the caller has left


def _settle(future: asyncio.Future[list[IPAddress]], found: list[IPAddress], error: Exception | None) -> None:
    if future.done():
        return
    if error is None and found:
        future.set_result(found)
    else:
        future.set_exception(error or OSError("no IP address"))
