"""What only the console runs into."""

from __future__ import annotations


class SignInNeeded(Exception):
    """Nobody is signed in, or the session has ended: the sign-in page comes first, then what was asked for."""
