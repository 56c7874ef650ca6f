"""Requests with an Idempotency-Key, and what their responses have in common."""

from __future__ import annotations

from uuid import uuid4

COMPARED = ("ETag", "Location", "Content-Type")


def a_key() -> str:
    return uuid4().hex


def sent(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def told(response) -> tuple:
    """What a repeated response has in common with the first."""
    return response.status_code, tuple(response.headers.get(name) for name in COMPARED), response.content


def code_of(response) -> str:
    """The code of a problem document."""
    return response.json()["type"].rpartition(":")[2]
