"""What can go wrong on a newcomer's machine."""

from __future__ import annotations


class LocalError(Exception):
    """One sentence that says what is in the way and what to do about it."""
