"""Ports that no other program gets by chance."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from itertools import cycle

from provider_registration.local.postgres import free_port

FIRST, END = 20_000, 32_000  # below the ports that Linux and macOS give to clients, and to servers that ask for any
SHARE = 1_000  # ports for each of pytest-xdist's processes


def _ports() -> Iterator[int]:
    """Those of this process, one after the other: a program has time to open its port before it is chosen again."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    share = int(worker.removeprefix("gw")) if worker else secrets.randbelow((END - FIRST) // SHARE)
    first = FIRST + share * SHARE % (END - FIRST)
    start = first + secrets.randbelow(SHARE)
    return cycle((*range(start, first + SHARE), *range(first, start)))


_PORTS = _ports()


def a_port() -> int:
    """A free port that no client takes before it is used, and that no client of a stopped server still dials."""
    return next(port for port in _PORTS if free_port(port) == port)


def ports_in_a_row(count: int) -> int:
    """The first of so many free ports, one after the other."""
    while True:
        ports = [a_port() for _ in range(count)]
        if ports[-1] - ports[0] == count - 1:
            return ports[0]
