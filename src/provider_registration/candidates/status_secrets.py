"""Secrets in status links, which let a company see its application without an account."""

from __future__ import annotations

import hashlib
import secrets

SECRET_BYTES = 32  # 256 bits cannot be guessed


def new_status_secret() -> str:
    """Generate a secret with URL-safe characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_of_secret(secret: str) -> str:
    """The stored hash of a secret, in hexadecimal. A plain hash is enough, because the secret is random."""
    return hashlib.sha256(secret.encode()).hexdigest()
