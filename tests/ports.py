"""Ports that no other program gets by chance."""

from __future__ import annotations

import secrets

from provider_registration.local.postgres import free_port

FIRST, END = 20_000, 32_000  # below the ports that Linux and macOS give to clients, and to servers that ask for any


def a_port() -> int:
    """A free port that no client takes before it is used, and that no client of a stopped server still dials."""
    return free_port(FIRST + secrets.randbelow(END - FIRST))
