"""Errors of `run` and the local tools."""

from __future__ import annotations


class LocalError(Exception):
    """An expected error; the message says what is wrong and what to do."""
