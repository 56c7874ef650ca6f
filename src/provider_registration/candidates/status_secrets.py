"""Secrets that show a company where its own application stands: whoever has one needs no account."""

from __future__ import annotations

import hashlib
import secrets

SECRET_BYTES = 32  # nobody guesses 256 bits


def new_status_secret() -> str:
    """A secret, in characters that URLs take as they are."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_of_secret(secret: str) -> str:
    """What is kept of a secret, in hexadecimal. A plain hash will do: it is random, there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()
